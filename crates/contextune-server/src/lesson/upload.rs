//! Receives a lesson: its pictures into a folder, and what is to be learned from them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::extract::multipart::Field;
use axum::http::StatusCode;
use contextune::data;
use contextune::image::Format;
use contextune::method::RecipeName;
use contextune::method::feature::linear_probe::LinearProbeSettings;
use contextune::method::text::coop::{ContextLayout, Position};
use contextune::run::{AnyMethod, Settings};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use super::names::PictureNames;
use crate::answer::Refusal;
use crate::intake::{
    Unclaimed, broken_form, multipart, text, too_large, twice, unknown_field, unprocessable,
};
use crate::limits::Limits;
use crate::shelf::{Backbone, Shelf};

/// Bytes of all pictures of a lesson.
const LESSON_BYTES: usize = 1 << 30;
/// Pictures of a lesson.
const LESSON_PICTURES: usize = 10_000;
/// Bytes of the whole form: a picture's head has less than a kilobyte.
pub(crate) const MOST_BYTES: usize = LESSON_BYTES + LESSON_PICTURES * 1024;
/// The slowest that a lesson may arrive, in bytes a second.
const SLOWEST: usize = 16_000;
/// Classes of a lesson.
const LESSON_CLASSES: usize = 200;
/// Longest name of a lesson, in bytes.
const LONGEST_NAME: usize = 64;
/// Longest name of a class, which is the name of a folder, in bytes.
const LONGEST_CLASS: usize = 100;
/// Every fifth picture of a class is held out; a class with fewer keeps all.
const ONE_HELD_OUT_OF: usize = 5;
/// Bytes by which a picture's format is recognised.
const LONGEST_SIGNATURE: usize = 16;
/// Context vectors of a taught prompt.
const CONTEXT_VECTORS: usize = 16;
/// In front of the class, in the name of a picture's part.
const CLASS: &str = "class/";
/// Begins the name of a folder whose lesson is still arriving.
const ARRIVING_PREFIX: &str = ".arriving-";
/// The age at which the folder of a lesson that is still arriving was left by a server that was killed.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);
/// The pictures' folder in a lesson's folder.
pub(super) const DATA: &str = "data";
const FIELDS: &str = "name, method, backbone, and pictures as files under class/ and their class";

/// What is to be learned, its pictures on disk.
pub(super) struct Plan {
    pub name: String,
    pub settings: Settings,
    pub backbone: Arc<Backbone>,
    pub held_out: usize,
    pub names: PictureNames,
    pub folder: PathBuf,
}

/// Removes uploads that killed servers left behind, but none that another server may be receiving at this moment.
pub(super) fn remove_abandoned(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten();
    for entry in entries.filter_map(Result::ok) {
        let is_arriving = entry
            .file_name()
            .to_string_lossy()
            .starts_with(ARRIVING_PREFIX);
        let changed = entry.metadata().and_then(|metadata| metadata.modified());
        let age = changed.ok().and_then(|changed| changed.elapsed().ok());
        if is_arriving && age.is_some_and(|age| age > ABANDONED) {
            // What cannot be removed does no harm.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A lesson that is being sent.
pub(super) struct Upload {
    /// The folder of all lessons.
    lessons: PathBuf,
    shelf: Arc<Shelf>,
    name: Option<String>,
    method: Option<String>,
    backbone: Option<String>,
    /// Pictures by class, in the order in which they came.
    classes: BTreeMap<String, Vec<ReceivedPicture>>,
    /// Removed with the upload, unless it becomes a plan.
    folder: TempDir,
}

/// A picture of an upload.
struct ReceivedPicture {
    /// Its file.
    path: PathBuf,
    /// The name under which it was sent.
    sent: String,
}

/// How much of a lesson has arrived, and until when the next piece has to.
struct Arrival {
    began: Instant,
    patience: Duration,
    bytes: usize,
    unclaimed: Unclaimed,
}

impl Arrival {
    /// Waits for `next`, and refuses the lesson if the client is too slow.
    async fn next<T>(
        &mut self,
        next: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let until = self.began + self.patience + Duration::from_secs((self.bytes / SLOWEST) as u64);
        let next = tokio::time::timeout_at(until.into(), next).await;
        self.unclaimed.claim();
        next.map_err(|_| {
            Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "the lesson did not arrive in time",
            )
        })?
    }
}

impl Upload {
    /// Receives a lesson into a folder of its own in `lessons`.
    ///
    /// # Errors
    /// 400, 408, 409, 413, 422, and 500 if the disk cannot be written.
    pub async fn receive(
        lessons: &Path,
        shelf: &Arc<Shelf>,
        request: Request,
        limits: &Limits,
    ) -> Result<Self, Refusal> {
        fs::create_dir_all(lessons).map_err(cannot_keep)?;
        let folder = tempfile::Builder::new()
            .prefix(ARRIVING_PREFIX)
            .tempdir_in(lessons)
            .map_err(cannot_keep)?;
        let mut upload = Self {
            lessons: lessons.to_owned(),
            shelf: Arc::clone(shelf),
            name: None,
            method: None,
            backbone: None,
            classes: BTreeMap::new(),
            folder,
        };
        let mut arrival = Arrival {
            began: Instant::now(),
            patience: limits.patience,
            bytes: 0,
            unclaimed: Unclaimed::default(),
        };
        let mut parts = multipart(request.map(|body| arrival.unclaimed.watch(body))).await?;
        let mut pictures = 0;
        while let Some(part) = arrival
            .next(async { parts.next_field().await.map_err(broken_form) })
            .await?
        {
            let field = part.name().unwrap_or_default().to_owned();
            if let Some(class) = field.strip_prefix(CLASS) {
                upload.check_name()?;
                upload.check_class(class)?;
                pictures += 1;
                if pictures > LESSON_PICTURES {
                    return Err(too_large(format!(
                        "at most {LESSON_PICTURES} pictures are taken for a lesson"
                    )));
                }
                upload
                    .picture(class, pictures, part, limits, &mut arrival)
                    .await?;
                continue;
            }
            let value = arrival.next(text(part)).await?;
            let is_again = match field.as_str() {
                "name" => upload.name.replace(value).is_some(),
                "method" => upload.method.replace(value).is_some(),
                "backbone" => upload.backbone.replace(value).is_some(),
                _ => return Err(unknown_field(&field, FIELDS)),
            };
            if is_again {
                return Err(twice(&field));
            }
        }
        Ok(upload)
    }

    /// Writes one picture to the upload's folder.
    async fn picture(
        &mut self,
        class: &str,
        number: usize,
        mut part: Field<'_>,
        limits: &Limits,
        arrival: &mut Arrival,
    ) -> Result<(), Refusal> {
        let name: String = part
            .file_name()
            .unwrap_or("a picture")
            .chars()
            .take(LONGEST_CLASS)
            .collect();
        let path = self.folder.path().join(format!("{number:05}"));
        let mut file = tokio::fs::File::create(&path).await.map_err(cannot_keep)?;
        let mut beginning = Vec::new();
        let mut bytes = 0;
        while let Some(chunk) = arrival
            .next(async { part.chunk().await.map_err(broken_form) })
            .await?
        {
            bytes += chunk.len();
            arrival.bytes += chunk.len();
            if bytes > limits.picture_bytes {
                return Err(too_large(format!(
                    "{name} has more than {} bytes",
                    limits.picture_bytes
                )));
            }
            if arrival.bytes > LESSON_BYTES {
                return Err(too_large(format!(
                    "a lesson's pictures have at most {LESSON_BYTES} bytes together"
                )));
            }
            if beginning.len() < LONGEST_SIGNATURE {
                beginning.extend_from_slice(&chunk);
            }
            file.write_all(&chunk).await.map_err(cannot_keep)?;
        }
        file.flush().await.map_err(cannot_keep)?;
        let format = Format::recognise(&beginning)
            .map_err(|error| unprocessable(format!("{name}: {error}")))?;
        let kept = path.with_extension(format.to_string().to_ascii_lowercase());
        tokio::fs::rename(&path, &kept).await.map_err(cannot_keep)?;
        let pictures = self.classes.entry(class.to_owned()).or_default();
        pictures.push(ReceivedPicture {
            path: kept,
            sent: name,
        });
        Ok(())
    }

    /// Checks and returns the name of the lesson, which comes before its pictures.
    fn check_name(&self) -> Result<&str, Refusal> {
        let Some(name) = &self.name else {
            return Err(unprocessable(
                "the lesson has no name: send `name` before the pictures",
            ));
        };
        let is_plain = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !is_plain || name.is_empty() || name.len() > LONGEST_NAME || name.starts_with('.') {
            return Err(unprocessable(format!(
                "{name:?} cannot be the name of a lesson: use up to {LONGEST_NAME} letters, digits, - _ and ."
            )));
        }
        if self.lessons.join(name).exists() || self.shelf.find(Some(name)).is_some() {
            return Err(conflict(format!(
                "there is a model or a lesson {name:?} already: choose another name"
            )));
        }
        Ok(name)
    }

    /// Checks that a class can be the name of a folder and is not one too many.
    fn check_class(&self, class: &str) -> Result<(), Refusal> {
        let is_bad = |character: char| character.is_control() || "/\\:*?\"<>|".contains(character);
        if class.trim().is_empty()
            || class.trim() != class
            || class.len() > LONGEST_CLASS
            || class.starts_with('.')
            || class.contains(is_bad)
        {
            return Err(unprocessable(format!(
                "{class:?} cannot be the name of a class: use up to {LONGEST_CLASS} letters, digits and blanks, and none of / \\ : * ? \" < > |"
            )));
        }
        if self.classes.len() >= LESSON_CLASSES && !self.classes.contains_key(class) {
            return Err(too_large(format!(
                "at most {LESSON_CLASSES} classes are taken for a lesson"
            )));
        }
        Ok(())
    }

    /// Splits the pictures into training and held-out pictures, and moves them into the lesson's folder.
    ///
    /// # Errors
    /// 409, 422, and 500 if the disk cannot be written.
    pub fn plan(self) -> Result<Plan, Refusal> {
        let name = self.check_name()?.to_owned();
        if self.classes.len() < 2 {
            return Err(unprocessable(
                "a lesson needs pictures of at least two classes",
            ));
        }
        let names: Vec<String> = self.classes.keys().cloned().collect();
        data::check_class_names("the lesson", &names).map_err(unprocessable)?;
        let backbone = match &self.backbone {
            None => self.shelf.find(None),
            Some(name) => self.shelf.find(Some(name)),
        };
        let backbone =
            backbone.ok_or_else(|| unprocessable("there is no such `backbone`; see /v1/models"))?;
        let backbone = Arc::clone(&backbone.backbone);
        let method = method(self.method.as_deref())?;

        let folder = self.lessons.join(&name);
        let data = absolute(&folder).join(DATA);
        let mut names = PictureNames::new([folder.join(DATA), data.clone()]);
        let mut held_out = 0;
        let arrived = self.folder.path().join(DATA);
        for (class, pictures) in self.classes {
            let [train, test] = ["train", "test"].map(|split| Path::new(split).join(&class));
            for folder in [&train, &test] {
                fs::create_dir_all(arrived.join(folder)).map_err(cannot_keep)?;
            }
            for (place, ReceivedPicture { path, sent }) in pictures.into_iter().enumerate() {
                let is_held_out = place % ONE_HELD_OUT_OF == ONE_HELD_OUT_OF - 1;
                held_out += usize::from(is_held_out);
                let folder = if is_held_out { &test } else { &train };
                let kept = folder.join(path.file_name().unwrap_or_default());
                fs::rename(path, arrived.join(&kept)).map_err(cannot_keep)?;
                names.insert(&kept, sent);
            }
        }
        fs::rename(self.folder.path(), &folder).map_err(cannot_keep)?;
        let _moved = self.folder.keep();
        let settings = Settings {
            model: backbone.source.clone(),
            activation: backbone.activation,
            // As browsers show it.
            exif: true,
            ..Settings::new(data, method, None, RecipeName::Fast)
        };
        Ok(Plan {
            name,
            settings,
            backbone,
            held_out,
            names,
            folder,
        })
    }
}

fn method(name: Option<&str>) -> Result<AnyMethod, Refusal> {
    match name {
        None | Some("coop") => Ok(AnyMethod::from(ContextLayout {
            length: CONTEXT_VECTORS,
            class_specific: false,
            position: Position::End,
            published_words: None,
        })),
        Some("linear-probe") => Ok(AnyMethod::from(LinearProbeSettings { c: None })),
        Some(other) => Err(unprocessable(format!(
            "{other:?} cannot be taught here: `method` is coop or linear-probe"
        ))),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

pub(super) fn conflict(error: impl ToString) -> Refusal {
    Refusal::new(StatusCode::CONFLICT, error)
}

pub(super) fn cannot_keep(error: io::Error) -> Refusal {
    Refusal::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        format!("the lesson cannot be kept on disk: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn upload(lessons: &Path) -> Upload {
        Upload {
            lessons: lessons.to_owned(),
            shelf: Arc::new(Shelf::new(Device::flex())),
            name: None,
            method: None,
            backbone: None,
            classes: BTreeMap::new(),
            folder: tempfile::tempdir_in(lessons).unwrap(),
        }
    }

    #[test]
    fn a_lesson_has_a_plain_name_that_is_free() {
        let lessons = tempfile::tempdir().unwrap();
        fs::create_dir(lessons.path().join("taken")).unwrap();
        let mut upload = upload(lessons.path());
        let mut status = |name: &str| {
            upload.name = Some(name.to_owned());
            upload
                .check_name()
                .err()
                .map(|refusal| refusal.status.as_u16())
        };
        let longest = "a".repeat(LONGEST_NAME);
        for name in ["pets", "Pets-2_b.v1", "-", &longest] {
            assert_eq!(status(name), None, "{name}");
        }
        let long = "a".repeat(LONGEST_NAME + 1);
        for name in [
            "",
            ".",
            "..",
            ".hidden",
            "../pets",
            "a/b",
            "a\\b",
            "a b",
            "kätzchen",
            "a\0",
            "a\n",
            "con:",
            &long,
        ] {
            assert_eq!(status(name), Some(422), "{name:?}");
        }
        assert_eq!(status("taken"), Some(409));
        upload.name = None;
        assert_eq!(
            upload.check_name().unwrap_err().status,
            StatusCode::UNPROCESSABLE_ENTITY
        );
    }

    #[test]
    fn a_class_is_the_name_of_a_folder() {
        let lessons = tempfile::tempdir().unwrap();
        let mut upload = upload(lessons.path());
        let status = |upload: &Upload, class: &str| {
            let checked = upload.check_class(class);
            checked.err().map(|refusal| refusal.status.as_u16())
        };
        let longest = "k".repeat(LONGEST_CLASS);
        for class in [
            "cat",
            "big cat",
            "kätzchen",
            "a-b_c.d",
            "猫",
            "00001.png",
            &longest,
        ] {
            assert_eq!(status(&upload, class), None, "{class}");
        }
        let long = "ä".repeat(LONGEST_CLASS / 2 + 1);
        for class in [
            "", " ", " cat", "cat ", ".", "..", ".cat", "a/b", "a\\b", "a:b", "a*", "a?", "a\"b",
            "a<b", "a>b", "a|b", "a\0b", "a\nb", &long,
        ] {
            assert_eq!(status(&upload, class), Some(422), "{class:?}");
        }
        for number in 0..LESSON_CLASSES {
            upload.classes.insert(number.to_string(), Vec::new());
        }
        assert_eq!(status(&upload, "0"), None);
        assert_eq!(status(&upload, "one more"), Some(413));
    }

    #[test]
    fn only_old_folders_of_arriving_lessons_are_abandoned() {
        let lessons = tempfile::tempdir().unwrap();
        let folders = [".arriving-old", ".arriving-new", "old"];
        for name in folders {
            fs::create_dir(lessons.path().join(name)).unwrap();
        }
        let days_ago = std::time::SystemTime::now() - 2 * ABANDONED;
        for name in [".arriving-old", "old"] {
            let folder = fs::File::open(lessons.path().join(name)).unwrap();
            folder.set_modified(days_ago).unwrap();
        }
        remove_abandoned(lessons.path());
        let is_there = folders.map(|name| lessons.path().join(name).exists());
        assert_eq!(is_there, [false, true, true]);
        remove_abandoned(&lessons.path().join("nowhere"));
    }

    #[test]
    fn only_methods_that_the_page_offers_are_taught() {
        for (name, known) in [
            (None, true),
            (Some("coop"), true),
            (Some("linear-probe"), true),
            (Some("vpt"), false),
            (Some(""), false),
        ] {
            assert_eq!(method(name).is_ok(), known, "{name:?}");
        }
    }
}
