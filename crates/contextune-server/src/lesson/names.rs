//! Names of a lesson's pictures. On disk they are numbered, because names that clients send have no place in a file system;
//! messages about them have the names that the client knows.

use std::collections::BTreeMap;
use std::path::{MAIN_SEPARATOR, Path, PathBuf, is_separator};

/// The names under which pictures were sent, by the paths under which they are kept.
#[derive(Debug)]
pub(super) struct PictureNames {
    /// The folder of all pictures, in every form in which a message may name it.
    roots: Vec<PathBuf>,
    /// By file name: no two pictures share one, whatever their folders.
    pictures: BTreeMap<String, KeptPicture>,
}

#[derive(Debug)]
struct KeptPicture {
    /// The name under which it was sent.
    sent: String,
    /// Its folder, below the roots.
    folder: PathBuf,
}

impl PictureNames {
    /// Creates an empty table. `roots` are the forms in which a message may name the folder of all pictures.
    pub fn new(roots: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            roots: roots.into_iter().collect(),
            pictures: BTreeMap::new(),
        }
    }

    /// Adds a picture that is kept at `path` below the roots and was sent as `sent`.
    pub fn insert(&mut self, path: &Path, sent: String) {
        let (Some(file), Some(folder)) = (path.file_name(), path.parent()) else {
            return;
        };
        let folder = folder.to_owned();
        let file = file.to_string_lossy().into_owned();
        self.pictures.insert(file, KeptPicture { sent, folder });
    }

    /// Returns `text` with the sent names in place of the paths and file names under which the pictures are kept. Only whole
    /// paths and whole file names are replaced, and what replaces them is not read again.
    pub fn as_sent(&self, text: &str) -> String {
        let mut renamed = text.to_owned();
        let mut unread = text.len();
        // From the end, because the class in a path may itself be named like a file.
        for (start, word) in file_names(text).into_iter().rev() {
            let end = start + word.len();
            let is_folder = text[end..].starts_with(is_separator);
            if end > unread || is_folder {
                continue;
            }
            if let Some(picture) = self.pictures.get(word)
                && let Some(start) = self.start_of_path(&text[..start], &picture.folder)
            {
                renamed.replace_range(start..end, &picture.sent);
                unread = start;
            }
        }
        renamed
    }

    /// Returns where the path of a picture in `folder` starts, given what precedes its file name; `None` if the picture is in
    /// another folder.
    fn start_of_path(&self, before: &str, folder: &Path) -> Option<usize> {
        let folders = self
            .roots
            .iter()
            .map(|root| root.join(folder))
            .chain([folder.to_owned()])
            .chain(folder.file_name().map(PathBuf::from))
            .map(|folder| format!("{}{MAIN_SEPARATOR}", folder.display()));
        folders
            .chain([String::new()])
            .filter_map(|folder| strip_folder(before, &folder))
            .filter(|before| !before.ends_with(|last| is_in_file_name(last) || is_separator(last)))
            .map(str::len)
            .min()
    }
}

/// Removes `folder` from the end of `text`, as it is or escaped as in quotes.
fn strip_folder<'a>(text: &'a str, folder: &str) -> Option<&'a str> {
    let quoted = format!("{folder:?}");
    let escaped = quoted.strip_prefix('"')?.strip_suffix('"')?;
    text.strip_suffix(folder)
        .or_else(|| text.strip_suffix(escaped))
}

/// Returns the words of `text` that can be file names, each with its first byte's place.
fn file_names(text: &str) -> Vec<(usize, &str)> {
    let mut start = 0;
    let words = text.split_inclusive(|character| !is_in_file_name(character));
    words
        .map(|piece| {
            let word = piece.trim_end_matches(|character| !is_in_file_name(character));
            let place = start;
            start += piece.len();
            // A sentence may end behind it.
            (place, word.trim_end_matches('.'))
        })
        .collect()
}

fn is_in_file_name(character: char) -> bool {
    character.is_alphanumeric() || "-_.".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Joins `parts` as the system writes paths.
    fn path(parts: &[&str]) -> String {
        let path: PathBuf = parts.iter().collect();
        path.display().to_string()
    }

    fn names(pictures: &[(&str, &str, &str)]) -> PictureNames {
        let roots = ["my lessons/pets/data", "/home/me/my lessons/pets/data"];
        let mut names = PictureNames::new(roots.map(PathBuf::from));
        for (class, kept, sent) in pictures {
            let place: PathBuf = ["train", class, kept].iter().collect();
            names.insert(&place, (*sent).to_owned());
        }
        names
    }

    #[test]
    fn a_path_is_replaced_wherever_it_stands_and_however_it_is_quoted() {
        let names = names(&[("big cat", "00001.png", "my cat.png")]);
        let relative = path(&["my lessons/pets/data", "train", "big cat", "00001.png"]);
        let absolute = path(&["/home/me", &relative]);
        let in_root = path(&["train", "big cat", "00001.png"]);
        let in_split = path(&["big cat", "00001.png"]);
        for path in [&absolute, &relative, &in_root, &in_split, "00001.png"] {
            for (before, after) in [
                ("", ""),
                ("", ": it is cut short"),
                ("one picture was left out: ", "; the others are fine"),
                ("left out \"", "\" (cut short)"),
                ("left out '", "'."),
                ("left out (", ", and others)"),
                ("the first is `", "`"),
                ("that is ", "."),
                ("that is ", "…"),
                ("two\nlines: ", "\n"),
            ] {
                let renamed = names.as_sent(&format!("{before}{path}{after}"));
                assert_eq!(renamed, format!("{before}my cat.png{after}"));
            }
        }
        let debug = format!("{:?} and {absolute:?}", Path::new(&absolute));
        assert_eq!(names.as_sent(&debug), "\"my cat.png\" and \"my cat.png\"");
    }

    #[test]
    fn a_path_whose_class_is_escaped_in_quotes_is_replaced() {
        let names = names(&[("\u{301}cat\u{200b}", "00001.png", "a.png")]);
        let path = path(&["train", "\u{301}cat\u{200b}", "00001.png"]);
        assert!(format!("{path:?}").contains("\\u{200b}"));
        assert_eq!(
            names.as_sent(&format!("{path:?}, {path}")),
            "\"a.png\", a.png"
        );
    }

    #[test]
    fn what_was_sent_is_not_taken_for_another_picture() {
        let names = names(&[
            ("cat", "00001.png", "00002.png"),
            ("cat", "00002.png", "copy of 00001.png"),
            ("00001.png", "00003.jpg", "train/cat/00001.png"),
        ]);
        assert_eq!(
            names.as_sent("00001.png, 00002.png and 00003.jpg"),
            "00002.png, copy of 00001.png and train/cat/00001.png"
        );
        // A class may be named like a picture.
        let path = path(&["train", "00001.png", "00003.jpg"]);
        assert_eq!(
            names.as_sent(&format!("{path} is cut")),
            "train/cat/00001.png is cut"
        );
        let path = format!("00001.png{MAIN_SEPARATOR}unknown.png is cut");
        assert_eq!(names.as_sent(&path), path);
    }

    #[test]
    fn what_only_contains_a_kept_name_stays() {
        let names = names(&[("cat", "00001.png", "a.png")]);
        for text in [
            "100001.png",
            "00001.png.part",
            "x00001.png",
            "old-00001.png",
            "00001.pngs",
            "00001",
            "/elsewhere/00001.png",
            "/elsewhere/cat/00001.png",
            "bobcat/00001.png",
            "train/dog/00001.png",
            "",
        ] {
            assert_eq!(names.as_sent(text), text);
        }
    }
}
