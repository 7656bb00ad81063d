//! A folder of pictures for each class, with or without `train/`, `val/` and `test/` above.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::{DataError, DataWarning, Result};
use super::python_random::PythonRandom;
use super::{Dataset, DatasetKind, Example, Input, Split, class_names, is_picture};

/// Pictures by class name: the order of names is that of the labels.
type Classes = BTreeMap<String, Vec<PathBuf>>;

pub(super) fn open(root: &Path, seed: u64) -> Result<Dataset> {
    let mut reader = Reader::default();
    let here = reader.list(root)?;
    if here.folders.is_empty() && here.pictures.is_empty() {
        return Err(DataError::EmptyFolder {
            path: root.to_owned(),
        });
    }
    if here.folders.is_empty() {
        return Err(no_class_folders(root));
    }

    let split_folders = split_folders(&here)?;
    let (class_names, [train, val, test]) = if split_folders.is_empty() {
        let classes = reader.classes(root, &here)?;
        require_pictures(root, &classes)?;
        (names(root, [&classes])?, split_by_seed(classes, seed))
    } else {
        reader.note_others(&here, &split_folders);
        reader.given_splits(root, &split_folders, seed)?
    };

    let labelled = |classes: Classes| -> Vec<Example> {
        let mut examples = Vec::new();
        for (name, pictures) in classes {
            // The names are sorted and hold every class.
            if let Ok(label) = class_names.binary_search(&name) {
                examples.extend(pictures.into_iter().map(|picture| Example {
                    input: Input::Picture(picture),
                    label,
                }));
            }
        }
        examples
    };
    let [train, val, test] = [train, val, test].map(labelled);
    let dataset = Dataset {
        root: root.to_owned(),
        kind: DatasetKind::ClassFolders,
        class_names,
        train,
        val,
        test,
        features: None,
        warnings: reader.into_warnings(),
    };
    dataset.require_examples(root)?;
    dataset.require_training(root)?;
    Ok(dataset)
}

/// The folders that are splits and not classes: `train`, `val` and `test` in any case, if one of them holds class
/// folders. A class may well be called "train".
fn split_folders(here: &Listing) -> Result<Vec<(Split, PathBuf)>> {
    let mut found = Vec::new();
    let mut any_holds_classes = false;
    for split in Split::ALL {
        let named = |folder: &&PathBuf| name_of(folder).eq_ignore_ascii_case(split.to_string());
        if let Some(folder) = here.folders.iter().find(named) {
            let listing = Reader::default().list(folder)?;
            any_holds_classes |= !listing.folders.is_empty() && listing.pictures.is_empty();
            found.push((split, folder.clone(), listing));
        }
    }
    let only_splits = found.len() == here.folders.len();
    if !any_holds_classes && !only_splits {
        return Ok(Vec::new());
    }
    for (_, folder, listing) in &found {
        match (listing.folders.is_empty(), listing.pictures.is_empty()) {
            (true, true) => {
                return Err(DataError::EmptyFolder {
                    path: folder.clone(),
                });
            }
            (true, false) => return Err(no_class_folders(folder)),
            _ => {}
        }
    }
    Ok(found
        .into_iter()
        .map(|(split, folder, _)| (split, folder))
        .collect())
}

/// Every class name, sorted.
fn names<'a>(root: &Path, splits: impl IntoIterator<Item = &'a Classes>) -> Result<Vec<String>> {
    let names: BTreeSet<&String> = splits
        .into_iter()
        .flat_map(|classes| classes.keys())
        .collect();
    let names: Vec<String> = names.into_iter().cloned().collect();
    class_names::check(&root.display().to_string(), &names)?;
    Ok(names)
}

fn require_pictures(folder: &Path, classes: &Classes) -> Result<()> {
    let without: Vec<String> = classes
        .iter()
        .filter(|(_, pictures)| pictures.is_empty())
        .map(|(name, _)| name.clone())
        .collect();
    match without.is_empty() {
        true => Ok(()),
        false => Err(DataError::NoPictures {
            path: folder.to_owned(),
            classes: without,
        }),
    }
}

/// The rule that [`super::open`] promises: 50/20/30 in each class, as CoOp's `read_and_split_data` on sorted lists.
fn split_by_seed(classes: Classes, seed: u64) -> [Classes; 3] {
    let mut random = PythonRandom::new(seed);
    let mut splits: [Classes; 3] = Default::default();
    for (name, mut pictures) in classes {
        random.shuffle(&mut pictures);
        let [train, val, _] = split_sizes(pictures.len());
        let test = pictures.split_off(train + val);
        let val = pictures.split_off(train);
        for (split, part) in splits.iter_mut().zip([pictures, val, test]) {
            split.insert(name.clone(), part);
        }
    }
    splits
}

/// Python's `round(0.5 * n)`, `round(0.2 * n)` and the rest; at least one to train on, then one to test on.
fn split_sizes(n: usize) -> [usize; 3] {
    let train = n / 2 + usize::from(n % 4 == 3); // halves round to even
    let train = train.max(n.min(1));
    let val = (2 * n + 5) / 10;
    let val = val.min((n - train).saturating_sub(1));
    [train, val, n - train - val]
}

/// What lies directly in a folder, each sorted.
#[derive(Default)]
struct Listing {
    folders: Vec<PathBuf>,
    pictures: Vec<PathBuf>,
}

/// Walks folders and notes what it leaves out.
#[derive(Default)]
struct Reader {
    ignored: usize,
    first_ignored: Option<PathBuf>,
    warnings: Vec<DataWarning>,
}

impl Reader {
    /// The visible folders and pictures in `folder`; links are followed.
    fn list(&mut self, folder: &Path) -> Result<Listing> {
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

    /// Class names and the classes of each split, where folders say which picture is in which.
    fn given_splits(
        &mut self,
        root: &Path,
        folders: &[(Split, PathBuf)],
        seed: u64,
    ) -> Result<(Vec<String>, [Classes; 3])> {
        let mut splits: [Classes; 3] = Default::default();
        for (split, folder) in folders {
            let listing = self.list(folder)?;
            let classes = self.classes(folder, &listing)?;
            if *split == Split::Train {
                require_pictures(folder, &classes)?;
            }
            splits[*split as usize] = classes;
        }
        let names = names(root, &splits)?;
        let is_given = Split::ALL.map(|split| folders.iter().any(|(given, _)| *given == split));
        let [train, val, test] = splits;
        let splits = match is_given {
            [true, false, false] => {
                self.warnings.push(DataWarning::TrainWasSplit { seed });
                split_by_seed(train, seed)
            }
            [_, true, false] => {
                self.warnings.push(DataWarning::ValIsTest);
                [train, val.clone(), val]
            }
            _ => [train, val, test],
        };
        Ok((names, splits))
    }

    /// Notes what lies beside `train/`, `val/` and `test/`.
    fn note_others(&mut self, here: &Listing, split_folders: &[(Split, PathBuf)]) {
        self.ignore_all(&here.pictures);
        let is_split = |folder: &&PathBuf| split_folders.iter().any(|(_, split)| split == *folder);
        let others = here.folders.iter().filter(|folder| !is_split(folder));
        let folders: Vec<String> = others
            .map(|folder| name_of(folder).to_string_lossy().into_owned())
            .collect();
        if !folders.is_empty() {
            self.warnings.push(DataWarning::FoldersIgnored { folders });
        }
    }

    /// The pictures at any depth below each class folder; those beside them belong to no class.
    fn classes(&mut self, parent: &Path, listing: &Listing) -> Result<Classes> {
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

    /// Every folder is read once and none above `folder`, however links are laid: loops end, and a web of links does
    /// not multiply pictures.
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

    fn ignore_all(&mut self, paths: &[PathBuf]) {
        paths.iter().for_each(|path| self.ignore(path));
    }

    fn into_warnings(mut self) -> Vec<DataWarning> {
        if let Some(example) = self.first_ignored {
            self.warnings.push(DataWarning::FilesIgnored {
                count: self.ignored,
                example,
            });
        }
        self.warnings
    }
}

fn no_class_folders(folder: &Path) -> DataError {
    DataError::NotADataset {
        path: folder.to_owned(),
        what: "a folder of pictures without classes".to_owned(),
        advice: "put the pictures of each class into a folder with its name",
    }
}

fn name_of(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

/// What file managers and archives leave behind.
fn is_hidden(name: &OsStr) -> bool {
    name == "__MACOSX" || name.as_encoded_bytes().starts_with(b".")
}
