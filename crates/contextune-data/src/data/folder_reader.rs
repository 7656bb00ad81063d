//! Walks folders of pictures: what lies in one, and the pictures below each class folder.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::error::{DataError, DataWarning, Result};
use crate::image::Format;

/// Extensions of the pictures that can be decoded, in lower case.
const PICTURE_EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "gif", "bmp"];

/// Other extensions that pictures have, in lower case; what such a file is, its first bytes say. Not `bak` or `part`.
const RARE_EXTENSIONS: [&str; 4] = ["jfif", "jpe", "jif", "dib"];

/// Returns whether a file is to be a picture that can be decoded: by its extension, in any case, or by its first bytes if it has none
/// or one of the rarer ones.
pub fn is_picture(path: &Path) -> bool {
    let extension = path.extension().map(OsStr::to_string_lossy);
    let is_one_of = |known: &[&str]| {
        let extension = extension.as_deref().unwrap_or_default();
        known
            .iter()
            .any(|known| known.eq_ignore_ascii_case(extension))
    };
    is_one_of(&PICTURE_EXTENSIONS)
        || (extension.is_none() || is_one_of(&RARE_EXTENSIONS))
            && begins_as_picture(path).unwrap_or(false)
}

fn begins_as_picture(path: &Path) -> io::Result<bool> {
    let mut start = Vec::new();
    File::open(path)?.take(18).read_to_end(&mut start)?;
    Ok(match Format::recognise(&start) {
        // A text may begin with BM: the size of the second header tells.
        Ok(Format::Bmp) => matches!(
            start.get(14..),
            Some([12 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0])
        ),
        recognised => recognised.is_ok(),
    })
}

/// Pictures by the name of their class folder, in the order of names.
pub(super) type Classes = BTreeMap<String, Vec<PathBuf>>;

/// What lies directly in a folder, each sorted.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) folders: Vec<PathBuf>,
    pub(super) pictures: Vec<PathBuf>,
}

/// Walks folders and notes what it leaves out.
#[derive(Default)]
pub(super) struct Reader {
    ignored: usize,
    first_ignored: Option<PathBuf>,
    pub(super) warnings: Vec<DataWarning>,
}

impl Reader {
    /// Lists the visible folders and pictures in `folder`; links are followed.
    pub(super) fn list(&mut self, folder: &Path) -> Result<Listing> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder).map_err(DataError::io(folder))? {
            let entry = entry.map_err(DataError::io(folder))?;
            let kind = entry.file_type().map_err(DataError::io(&entry.path()))?;
            entries.push((entry.path(), kind));
        }
        entries.sort_by(|(left, _), (right, _)| left.cmp(right));

        let mut listing = Listing::default();
        for (path, kind) in entries {
            let target = match kind.is_symlink() {
                // An error is a link to nothing or to itself.
                true => fs::metadata(&path)
                    .ok()
                    .map(|metadata| metadata.file_type()),
                false => Some(kind),
            };
            let is_folder = target.is_some_and(|kind| kind.is_dir());
            let is_file = target.is_some_and(|kind| kind.is_file());
            match is_hidden(name_of(&path)) {
                true if is_folder => {}
                false if is_folder => listing.folders.push(path),
                false if is_file && is_picture(&path) => listing.pictures.push(path),
                _ => self.ignore(&path),
            }
        }
        Ok(listing)
    }

    /// Lists the pictures at any depth below each class folder; those beside them belong to no class.
    pub(super) fn classes(&mut self, parent: &Path, listing: &Listing) -> Result<Classes> {
        self.ignore_all(&listing.pictures);
        let mut classes = Classes::new();
        for folder in &listing.folders {
            let name = name_of(folder).to_str().ok_or_else(|| DataError::NoName {
                source_name: parent.display().to_string(),
                what: format!("the folder {:?}", name_of(folder)),
            })?;
            classes.insert(name.to_owned(), self.pictures_below(parent, folder)?);
        }
        Ok(classes)
    }

    /// Lists the pictures at any depth. Every folder is read once and none above `folder`, however links are laid:
    /// loops end, and a web of links does not multiply pictures.
    fn pictures_below(&mut self, parent: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
        let real = |path: &Path| fs::canonicalize(path).map_err(DataError::io(path));
        let mut read: HashSet<PathBuf> = real(parent)?.ancestors().map(Path::to_owned).collect();
        let mut pictures = Vec::new();
        let mut pending = vec![folder.to_owned()];
        while let Some(folder) = pending.pop() {
            if read.insert(real(&folder)?) {
                let listing = self.list(&folder)?;
                pictures.extend(listing.pictures);
                pending.extend(listing.folders.into_iter().rev());
            }
        }
        pictures.sort();
        Ok(pictures)
    }

    fn ignore(&mut self, path: &Path) {
        self.ignored += 1;
        self.first_ignored.get_or_insert_with(|| path.to_owned());
    }

    pub(super) fn ignore_all(&mut self, paths: &[PathBuf]) {
        paths.iter().for_each(|path| self.ignore(path));
    }

    pub(super) fn into_warnings(mut self) -> Vec<DataWarning> {
        if let Some(example) = self.first_ignored {
            self.warnings.push(DataWarning::FilesIgnored {
                count: self.ignored,
                example,
            });
        }
        self.warnings
    }
}

pub(super) fn name_of(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

/// Returns whether file managers or archives leave such a name behind.
fn is_hidden(name: &OsStr) -> bool {
    name == "__MACOSX" || name.as_encoded_bytes().starts_with(b".")
}
