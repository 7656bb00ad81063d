//! Lessons: pictures that were sent, learned from in a thread of their own, one lesson at a time.
//!
//! A lesson is a folder like any other: `data/train/` and `data/test/` with a folder for each class, and the run in `run/`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::extract::multipart::Field;
use axum::http::StatusCode;
use contextune::data;
use contextune::features::EncodingWatcher;
use contextune::image::Format;
use contextune::prompt::Method;
use contextune::prompt::coop::{ContextLayout, Position};
use contextune::prompt::linear_probe::LinearProbeSettings;
use contextune::report::Grounds;
use contextune::run::{self, LearnError, RecipeName, RunFolder, RunWatcher, Settings};
use contextune::train::{self as training, EpochMetrics};
use serde::Serialize;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utoipa::ToSchema;

use crate::answer::Refusal;
use crate::intake::{
    Unclaimed, broken_form, multipart, text, too_large, twice, unknown_field, unprocessable,
};
use crate::limits::Limits;
use crate::shelf::{Backbone, Shelf};

/// Bytes of all pictures of a lesson, and how many there may be.
const LESSON_BYTES: usize = 1 << 30;
const LESSON_PICTURES: usize = 10_000;
/// Bytes of the whole form: a picture's head has less than a kilobyte.
pub(crate) const MOST_BYTES: usize = LESSON_BYTES + LESSON_PICTURES * 1024;
/// Lessons that may arrive at a time, and how slowly, in bytes a second.
const ARRIVING: usize = 4;
const SLOWEST: usize = 16_000;
const LESSON_CLASSES: usize = 200;
/// Longest names, in bytes: of a lesson, and of a class, which is the name of a folder.
const LONGEST_NAME: usize = 64;
const LONGEST_CLASS: usize = 100;
/// Of so many pictures of a class one is held out; a class with fewer keeps all.
const ONE_HELD_OUT_OF: usize = 5;
/// Bytes by which a picture's format is recognised.
const LONGEST_SIGNATURE: usize = 16;
/// Context vectors of a taught prompt.
const CONTEXT_VECTORS: usize = 16;
/// In front of the class, in the name of a picture's part.
const CLASS: &str = "class/";
/// Begins the name of a folder whose lesson still arrives, and the age at which it is one that a killed server left.
const ARRIVING_PREFIX: &str = ".arriving-";
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);
/// Parts of a lesson's folder.
const DATA: &str = "data";
const RUN: &str = "run";
const FIELDS: &str = "name, method, backbone, and pictures as files under class/ and their class";

/// All lessons since the server started, and where they are kept.
#[derive(Debug)]
pub(crate) struct Lessons {
    folder: PathBuf,
    cache: Option<PathBuf>,
    /// Pictures that declare more are left out.
    pixels: u64,
    shelf: Arc<Shelf>,
    arriving: Semaphore,
    /// One permit: whoever holds it learns.
    free: Arc<Semaphore>,
    lessons: Mutex<BTreeMap<String, Arc<Lesson>>>,
    /// That of the newest lesson.
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Whether the server is stopping.
    stopping: AtomicBool,
}

/// A lesson of an earlier day.
#[derive(Clone, Debug)]
pub struct Taught {
    /// Its name.
    pub name: String,
    /// The run that it became.
    pub run: PathBuf,
    /// Whether it has a prompt; without one it can be resumed.
    pub is_finished: bool,
}

/// The lessons in a folder, by name; none if there is no such folder.
pub fn taught(folder: &Path) -> Vec<Taught> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut taught: Vec<Taught> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let run = RunFolder::open(&entry.path().join(RUN)).ok()?;
            Some(Taught {
                name: entry.file_name().to_string_lossy().into_owned(),
                run: run.path().to_owned(),
                is_finished: run.prompt_file().is_file(),
            })
        })
        .collect();
    taught.sort_by(|a, b| a.name.cmp(&b.name));
    taught
}

/// One lesson.
#[derive(Debug)]
struct Lesson {
    progress: Mutex<Progress>,
    stop: AtomicBool,
}

/// How far a lesson is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Progress {
    name: String,
    state: LessonState,
    /// Pictures that went through the image tower, and how many have to.
    encoded: usize,
    to_encode: usize,
    epochs_done: usize,
    epochs: usize,
    /// Loss and share of the training pictures that were right, epoch by epoch.
    curve: Vec<Point>,
    /// What a person should know.
    remarks: Vec<String>,
    /// Why it failed.
    error: Option<String>,
    /// Share of the held-out pictures that it classifies rightly; absent if none were held out.
    accuracy: Option<f32>,
    /// Pictures that were held out to measure on: every fifth of a class that has five or more.
    held_out: usize,
    /// Seconds so far.
    seconds: f64,
}

/// What a lesson is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum LessonState {
    /// Pictures become features.
    Encoding,
    /// The prompt is learned.
    Learning,
    /// The model can be asked.
    Done,
    /// See `error`.
    Failed,
    /// It was ended before its last epoch.
    Stopped,
}

/// An epoch of the curve.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
struct Point {
    epoch: usize,
    loss: f32,
    accuracy: f32,
}

/// What is to be learned, its pictures on disk.
struct Plan {
    name: String,
    settings: Settings,
    backbone: Arc<Backbone>,
    held_out: usize,
    /// The names under which its pictures were sent, by those under which they are kept.
    sent: BTreeMap<String, String>,
    folder: PathBuf,
}

/// Removes what killed servers left of lessons that arrived; another server may be receiving one at this moment.
fn remove_abandoned(folder: &Path) {
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

impl Lessons {
    /// Nothing taught yet; `folder` is made when the first lesson arrives.
    pub fn new(folder: PathBuf, cache: Option<PathBuf>, pixels: u64, shelf: Arc<Shelf>) -> Self {
        remove_abandoned(&folder);
        Self {
            folder,
            cache,
            pixels,
            shelf,
            arriving: Semaphore::new(ARRIVING),
            free: Arc::new(Semaphore::new(1)),
            lessons: Mutex::default(),
            thread: Mutex::default(),
            stopping: AtomicBool::new(false),
        }
    }

    fn lessons(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Lesson>>> {
        self.lessons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the lesson of this name is.
    pub fn progress(&self, name: &str) -> Option<Progress> {
        let lesson = self.lessons().get(name).cloned()?;
        Some(lesson.progress().clone())
    }

    /// Ends the lesson of this name after its epoch, if there is one.
    pub fn stop_one(&self, name: &str) -> bool {
        let lessons = self.lessons();
        let lesson = lessons.get(name);
        lesson
            .inspect(|lesson| lesson.stop.store(true, Ordering::SeqCst))
            .is_some()
    }

    /// Ends whatever is being learned after its epoch, and takes no more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Waits for the end of what is being learned.
    pub fn join(&self) {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // A panic in it was told already, as a lesson that failed.
            let _ = thread.join();
        }
    }

    /// Learns what `plan` says and puts it on the shelf. What comes to nothing leaves nothing, unless it can be resumed.
    fn learn(&self, plan: &Plan, lesson: &Lesson) {
        let started = Instant::now();
        let watcher = LessonWatcher {
            lesson,
            started,
            stopping: &self.stopping,
            sent: &plan.sent,
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| self.learned(plan, &watcher)));
        let (state, error) = match &outcome {
            Ok(Ok(_)) => (LessonState::Done, None),
            Ok(Err(Failure::Learn(LearnError::Stopped { .. }) | Failure::Stopped)) => {
                (LessonState::Stopped, None)
            }
            Ok(Err(error)) => (LessonState::Failed, Some(watcher.named(&error.to_string()))),
            Err(_) => {
                let error = "the server failed on this lesson; it goes on with others";
                (LessonState::Failed, Some(error.to_owned()))
            }
        };
        // `contextune resume` goes on with what the end of the server stopped.
        let is_kept = state == LessonState::Done
            || (state == LessonState::Stopped && self.stopping.load(Ordering::SeqCst));
        if !is_kept && let Err(error) = fs::remove_dir_all(&plan.folder) {
            watcher.remark(format!("{} is left over: {error}", plan.folder.display()));
        }
        let mut progress = lesson.progress();
        progress.seconds = started.elapsed().as_secs_f64();
        progress.error = error;
        progress.state = state;
        if let Ok(Ok(measured)) = outcome {
            progress.accuracy = measured.map(|(accuracy, _)| accuracy);
            progress.held_out = measured.map_or(0, |(_, pictures)| pictures);
        }
    }

    /// The accuracy on the held-out pictures that could be read, and how many these are; `None` if there are none.
    fn learned(
        &self,
        plan: &Plan,
        watcher: &LessonWatcher<'_>,
    ) -> Result<Option<(f32, usize)>, Failure> {
        let Plan {
            settings, backbone, ..
        } = plan;
        let model = &backbone.model;
        settings.check(model).map_err(LearnError::from)?;
        let dataset =
            data::open(&plan.folder.join(DATA), settings.split_seed()).map_err(LearnError::from)?;
        let folder =
            RunFolder::create(&plan.folder.join(RUN), settings, false).map_err(LearnError::from)?;
        let encoder = run::encoder(settings, model, self.cache.clone())
            .map_err(LearnError::from)?
            .refusing_above(self.pixels);
        let learned = run::learn(settings, &dataset, model, &encoder, &folder, watcher);
        let measured = match learned {
            Ok(outcome) => {
                let grounds = Grounds {
                    folder: &folder,
                    model,
                    dataset: &dataset,
                    cache: self.cache.as_deref(),
                    measured: Some(&outcome.measured),
                };
                // The run is whole without it.
                if let Err(error) = grounds.write_page(watcher) {
                    watcher.remark(format!("there is no report: {error}"));
                }
                Some((outcome.result.accuracy, outcome.measured.examples.len()))
            }
            // The prompt is there all the same.
            Err(LearnError::NothingToMeasure { source, .. }) => {
                if plan.held_out > 0 {
                    watcher.remark(format!("nothing could be measured: {source}"));
                }
                None
            }
            Err(error) => return Err(error.into()),
        };
        // A method without epochs could not be stopped before.
        if watcher.lesson.stop.load(Ordering::SeqCst) {
            return Err(Failure::Stopped);
        }
        self.shelf
            .add_learned(&plan.name, folder.path(), true, backbone)?;
        Ok(measured)
    }
}

/// Why a lesson came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Learn(#[from] LearnError),
    #[error(transparent)]
    Shelf(#[from] crate::shelf::ShelfError),
    #[error("it was stopped")]
    Stopped,
}

impl Lesson {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a lesson's progress.
struct LessonWatcher<'a> {
    lesson: &'a Lesson,
    started: Instant,
    stopping: &'a AtomicBool,
    sent: &'a BTreeMap<String, String>,
}

impl LessonWatcher<'_> {
    /// A sentence that names pictures as they were sent, not as they are kept.
    fn named(&self, sentence: &str) -> String {
        let words = sentence.split(' ').map(|word| {
            let path = Path::new(word.trim_end_matches([':', ';', ',']));
            let kept = path.file_name().and_then(|name| name.to_str());
            match kept.and_then(|kept| self.sent.get(kept)) {
                Some(sent) => format!("{sent}{}", &word[path.as_os_str().len()..]),
                None => word.to_owned(),
            }
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

impl EncodingWatcher for LessonWatcher<'_> {
    fn encoded(&self, done: usize, all: usize) {
        let mut progress = self.lesson.progress();
        (progress.encoded, progress.to_encode) = (done, all);
        progress.seconds = self.started.elapsed().as_secs_f64();
    }

    fn remark(&self, text: String) {
        let text = self.named(&text);
        self.lesson.progress().remarks.push(text);
    }
}

impl RunWatcher for LessonWatcher<'_> {
    fn begin(&self) {
        self.lesson.progress().state = LessonState::Learning;
    }

    fn step(&self, step: training::Progress, _loss: f32) {
        let mut progress = self.lesson.progress();
        progress.epochs = step.epochs;
        progress.seconds = self.started.elapsed().as_secs_f64();
    }

    fn epoch(&self, metrics: &EpochMetrics, epochs: usize) -> ControlFlow<()> {
        let mut progress = self.lesson.progress();
        (progress.epochs_done, progress.epochs) = (metrics.epoch, epochs);
        progress.curve.push(Point {
            epoch: metrics.epoch,
            loss: metrics.loss,
            accuracy: metrics.accuracy,
        });
        progress.seconds = self.started.elapsed().as_secs_f64();
        let is_over = [&self.lesson.stop, self.stopping]
            .into_iter()
            .any(|flag| flag.load(Ordering::SeqCst));
        match is_over {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

/// Takes the pictures of a lesson and begins to learn from them; returns its name.
///
/// # Errors
/// 409 if another lesson is under way or the name is taken, 408, 413, 422, 503, and 500 if the disk cannot be written.
pub(crate) async fn begin(
    lessons: &Arc<Lessons>,
    request: Request,
    limits: &Limits,
) -> Result<String, Refusal> {
    let under_way = || conflict("another lesson is under way: wait until it is done, or stop it");
    if lessons.free.available_permits() == 0 {
        return Err(under_way());
    }
    let _arriving = lessons
        .arriving
        .try_acquire()
        .map_err(|_| Refusal::busy())?;
    let upload = Upload::receive(lessons, request, limits).await?;
    let turn = Arc::clone(&lessons.free);
    let turn = turn.try_acquire_owned().map_err(|_| under_way())?;
    let lessons = Arc::clone(lessons);
    // Thousands of pictures get their places: not on a thread that serves others.
    let begun = tokio::task::spawn_blocking(move || start(lessons, upload, turn)).await;
    begun.map_err(io::Error::from).map_err(cannot_keep)?
}

/// Begins to learn in a thread that holds `turn` until it is done.
fn start(
    lessons: Arc<Lessons>,
    upload: Upload,
    turn: OwnedSemaphorePermit,
) -> Result<String, Refusal> {
    if lessons.stopping.load(Ordering::SeqCst) {
        return Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the server is stopping",
        ));
    }
    let plan = upload.plan(&lessons)?;
    let name = plan.name.clone();
    let lesson = Arc::new(Lesson {
        progress: Mutex::new(Progress::new(&plan)),
        stop: AtomicBool::new(false),
    });
    lessons.lessons().insert(name.clone(), Arc::clone(&lesson));
    let (learning, folder) = (Arc::clone(&lessons), plan.folder.clone());
    // Held until the thread is in it, so that whoever stops the server waits for it.
    let mut thread = lessons
        .thread
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let spawned = std::thread::Builder::new()
        .name("lesson".into())
        .spawn(move || {
            learning.learn(&plan, &lesson);
            drop(turn);
        });
    match spawned {
        Ok(handle) => {
            *thread = Some(handle);
            Ok(name)
        }
        Err(error) => {
            lessons.lessons().remove(&name);
            // Nothing else can be done about what cannot be removed.
            let _ = fs::remove_dir_all(folder);
            Err(cannot_keep(error))
        }
    }
}

impl Progress {
    fn new(plan: &Plan) -> Self {
        Self {
            name: plan.name.clone(),
            state: LessonState::Encoding,
            encoded: 0,
            to_encode: 0,
            epochs_done: 0,
            epochs: 0,
            curve: Vec::new(),
            remarks: Vec::new(),
            error: None,
            accuracy: None,
            held_out: plan.held_out,
            seconds: 0.0,
        }
    }
}

/// A lesson that is being sent.
struct Upload {
    name: Option<String>,
    method: Option<String>,
    backbone: Option<String>,
    /// Pictures by class, in the order in which they came.
    classes: BTreeMap<String, Vec<PathBuf>>,
    /// The names under which they were sent, by those under which they are kept.
    sent: BTreeMap<String, String>,
    /// Goes away with the upload, unless it becomes a plan.
    folder: TempDir,
}

/// How much of a lesson has arrived, and until when the next piece has to.
struct Arrival {
    began: Instant,
    patience: Duration,
    bytes: usize,
    unclaimed: Unclaimed,
}

impl Arrival {
    /// What `next` gives, unless the client is too slow.
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
    async fn receive(
        lessons: &Lessons,
        request: Request,
        limits: &Limits,
    ) -> Result<Self, Refusal> {
        fs::create_dir_all(&lessons.folder).map_err(cannot_keep)?;
        let folder = tempfile::Builder::new()
            .prefix(ARRIVING_PREFIX)
            .tempdir_in(&lessons.folder)
            .map_err(cannot_keep)?;
        let mut upload = Self {
            name: None,
            method: None,
            backbone: None,
            classes: BTreeMap::new(),
            sent: BTreeMap::new(),
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
                upload.check_name(lessons)?;
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
        if let Some(kept) = kept.file_name() {
            self.sent.insert(kept.to_string_lossy().into_owned(), name);
        }
        self.classes.entry(class.to_owned()).or_default().push(kept);
        Ok(())
    }

    /// The name of the lesson, which comes before its pictures.
    fn check_name(&self, lessons: &Lessons) -> Result<&str, Refusal> {
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
        if lessons.folder.join(name).exists() || lessons.shelf.find(Some(name)).is_some() {
            return Err(conflict(format!(
                "there is a model or a lesson {name:?} already: choose another name"
            )));
        }
        Ok(name)
    }

    /// A class is the name of a folder here.
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

    /// Holds pictures out, gives every picture its place, and makes the lesson's folder of it.
    fn plan(self, lessons: &Lessons) -> Result<Plan, Refusal> {
        let name = self.check_name(lessons)?.to_owned();
        if self.classes.len() < 2 {
            return Err(unprocessable(
                "a lesson needs pictures of at least two classes",
            ));
        }
        let names: Vec<String> = self.classes.keys().cloned().collect();
        data::check_class_names("the lesson", &names).map_err(unprocessable)?;
        let backbone = match &self.backbone {
            None => lessons.shelf.find(None),
            Some(name) => lessons.shelf.find(Some(name)),
        };
        let backbone =
            backbone.ok_or_else(|| unprocessable("there is no such `backbone`; see /v1/models"))?;
        let backbone = Arc::clone(&backbone.backbone);
        let method = method(self.method.as_deref())?;

        let mut held_out = 0;
        for (class, pictures) in &self.classes {
            let [train, test] = ["train", "test"]
                .map(|split| self.folder.path().join(DATA).join(split).join(class));
            for folder in [&train, &test] {
                fs::create_dir_all(folder).map_err(cannot_keep)?;
            }
            for (place, picture) in pictures.iter().enumerate() {
                let is_held_out = place % ONE_HELD_OUT_OF == ONE_HELD_OUT_OF - 1;
                held_out += usize::from(is_held_out);
                let folder = if is_held_out { &test } else { &train };
                let file = picture.file_name().unwrap_or_default();
                fs::rename(picture, folder.join(file)).map_err(cannot_keep)?;
            }
        }
        let folder = lessons.folder.join(&name);
        fs::rename(self.folder.path(), &folder).map_err(cannot_keep)?;
        let _moved = self.folder.keep();
        let data = absolute(&folder).join(DATA);
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
            sent: self.sent,
            folder,
        })
    }
}

fn method(name: Option<&str>) -> Result<Method, Refusal> {
    match name {
        None | Some("coop") => Ok(Method::Coop(ContextLayout {
            length: CONTEXT_VECTORS,
            class_specific: false,
            position: Position::End,
            published_words: None,
        })),
        Some("linear-probe") => Ok(Method::LinearProbe(LinearProbeSettings { c: None })),
        Some(other) => Err(unprocessable(format!(
            "{other:?} cannot be taught here: `method` is coop or linear-probe"
        ))),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn conflict(error: impl ToString) -> Refusal {
    Refusal::new(StatusCode::CONFLICT, error)
}

fn cannot_keep(error: io::Error) -> Refusal {
    Refusal::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        format!("the lesson cannot be kept on disk: {error}"),
    )
}
