//! A folder of pictures for each class, with or without folders for train, val and test above.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::class_names;
use super::dataset::{Dataset, DatasetKind, Example, Input};
use super::error::{DataError, DataWarning, Result};
use super::folder_reader::{Classes, Listing, Reader, name_of};
use super::python_random::PythonRandom;
use super::split::Split;

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
        reader.note_same_folders(&here)?;
        (names(root, [&classes])?, split_by_seed(classes, seed))
    } else {
        reader.note_others(&here, &split_folders);
        let split_folders = reader.with_classes(root, split_folders)?;
        reader.given_splits(root, &split_folders, seed)?
    };

    let [train, val, test] = [train, val, test].map(|classes| labelled(classes, &class_names));
    let dataset = Dataset {
        root: root.to_owned(),
        kind: DatasetKind::ClassFolders,
        published: None,
        class_names,
        train,
        val,
        test,
        features: None,
        few_shot_files: None,
        warnings: reader.into_warnings(),
    };
    dataset.require_examples(root)?;
    dataset.require_training(root)?;
    Ok(dataset)
}

/// Returns the pictures with their labels; `folders` is sorted and holds every class.
pub(super) fn labelled(classes: Classes, folders: &[String]) -> Vec<Example> {
    let mut examples = Vec::new();
    for (folder, pictures) in classes {
        if let Ok(label) = folders.binary_search(&folder) {
            examples.extend(pictures.into_iter().map(|picture| Example {
                input: Input::Picture(picture),
                label,
            }));
        }
    }
    examples
}

/// Returns the folders that are splits and not classes: `train`, `val` and `test` in any case, if one of them holds class folders (a
/// class may well be called "train"), and what people call them otherwise, if it holds classes of another split.
fn split_folders(here: &Listing) -> Result<Vec<SplitFolder>> {
    let mut plain = Vec::new();
    let mut others = Vec::new();
    for path in &here.folders {
        if let Some(split) = name_of(path).to_str().and_then(Split::of_folder) {
            let folder = SplitFolder {
                split,
                path: path.clone(),
                listing: Reader::default().list(path)?,
            };
            match folder.is_plain() {
                true => plain.push(folder),
                false if folder.holds_classes() => others.push(folder),
                false => {}
            }
        }
    }
    others.retain(|other| plain.iter().all(|folder| folder.split != other.split));
    let all_plain = !plain.is_empty() && plain.len() == here.folders.len();
    if all_plain || plain.iter().any(SplitFolder::holds_classes) {
        others.retain(|other| plain.iter().any(|folder| folder.shares_classes(other)));
        plain.extend(others);
        return Ok(plain);
    }
    // Without a plain name a split to learn from must be among them, and another of the same classes or without labels.
    let train = others.iter().find(|folder| folder.split == Split::Train);
    let is_found = train.is_some_and(|train| {
        let mut rest = others.iter().filter(|folder| folder.split != Split::Train);
        rest.any(|folder| folder.shares_classes(train)) || !plain.is_empty()
    });
    match is_found {
        true => Ok(others.into_iter().chain(plain).collect()),
        false => Ok(Vec::new()),
    }
}

/// A folder that is a split by its name.
struct SplitFolder {
    split: Split,
    path: PathBuf,
    listing: Listing,
}

impl SplitFolder {
    fn holds_classes(&self) -> bool {
        !self.listing.folders.is_empty() && self.listing.pictures.is_empty()
    }

    /// Whether it is called as its split is.
    fn is_plain(&self) -> bool {
        self.name().eq_ignore_ascii_case(&self.split.to_string())
    }

    fn shares_classes(&self, other: &Self) -> bool {
        let mut classes = self.listing.folders.iter().map(|folder| name_of(folder));
        classes.any(|class| {
            let mut others = other.listing.folders.iter();
            others.any(|folder| name_of(folder) == class)
        })
    }

    fn name(&self) -> String {
        name_of(&self.path).to_string_lossy().into_owned()
    }
}

/// Returns every class name, sorted.
fn names<'a>(root: &Path, splits: impl IntoIterator<Item = &'a Classes>) -> Result<Vec<String>> {
    let names: BTreeSet<&String> = splits
        .into_iter()
        .flat_map(|classes| classes.keys())
        .collect();
    let names: Vec<String> = names.into_iter().cloned().collect();
    class_names::check(&root.display().to_string(), &names)?;
    Ok(names)
}

/// Refuses classes without a picture.
pub(super) fn require_pictures(folder: &Path, classes: &Classes) -> Result<()> {
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

/// Splits by the rule that [`super::open`] documents: 50/20/30 in each class, as CoOp's `read_and_split_data` on sorted
/// lists.
pub(super) fn split_by_seed(classes: Classes, seed: u64) -> [Classes; 3] {
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

/// Returns Python's `round(0.5 * n)`, `round(0.2 * n)` and the rest, but at least one to train on, then one to test on.
fn split_sizes(n: usize) -> [usize; 3] {
    let train = n / 2 + usize::from(n % 4 == 3); // halves round to even
    let train = train.max(n.min(1));
    let val = (2 * n + 5) / 10;
    let val = val.min((n - train).saturating_sub(1));
    [train, val, n - train - val]
}

impl Reader {
    /// Returns the folders of which each is a split with class folders, one for a split, and notes what they were taken for. Folders
    /// of pictures without labels are left out, except the pictures to learn from: those must have some.
    fn with_classes(
        &mut self,
        root: &Path,
        mut folders: Vec<SplitFolder>,
    ) -> Result<Vec<SplitFolder>> {
        folders.sort_by_key(|folder| folder.split);
        let mut kept: Vec<SplitFolder> = Vec::new();
        let any_holds_classes = folders.iter().any(SplitFolder::holds_classes);
        for folder in folders {
            let (path, pictures) = (&folder.path, folder.listing.pictures.len());
            match (folder.listing.folders.is_empty(), pictures) {
                (true, 0) => return Err(DataError::EmptyFolder { path: path.clone() }),
                (true, _) if folder.split == Split::Train || !any_holds_classes => {
                    return Err(no_class_folders(path));
                }
                (true, pictures) => {
                    let folder = path.clone();
                    self.warnings
                        .push(DataWarning::SplitWithoutClasses { folder, pictures });
                    continue;
                }
                (false, _) => {}
            }
            if let Some(first) = kept.iter().find(|other| other.split == folder.split) {
                return Err(DataError::TwoSplitFolders {
                    path: root.to_owned(),
                    split: folder.split,
                    first: first.name(),
                    second: folder.name(),
                });
            }
            kept.push(folder);
        }
        if !kept.iter().all(SplitFolder::is_plain) {
            let folders = kept.iter().map(|folder| (folder.split, folder.name()));
            self.warnings.push(DataWarning::SplitsTaken {
                folders: folders.collect(),
            });
        }
        Ok(kept)
    }

    /// Notes that all class folders hold folders of the same names: those may be the classes.
    fn note_same_folders(&mut self, here: &Listing) -> Result<()> {
        let name = |path: &PathBuf| name_of(path).to_string_lossy().into_owned();
        let mut alike: Option<Vec<String>> = None;
        for folder in &here.folders {
            let listing = Reader::default().list(folder)?;
            let inside: Vec<String> = listing.folders.iter().map(name).collect();
            if inside.len() < 2 || alike.get_or_insert_with(|| inside.clone()) != &inside {
                return Ok(());
            }
        }
        if let Some(inside) = alike.filter(|_| here.folders.len() > 1) {
            self.warnings.push(DataWarning::LooksLikeSplits {
                folders: here.folders.iter().map(name).collect(),
                inside,
            });
        }
        Ok(())
    }

    /// Returns class names and the classes of each split, where folders say which picture is in which.
    fn given_splits(
        &mut self,
        root: &Path,
        folders: &[SplitFolder],
        seed: u64,
    ) -> Result<(Vec<String>, [Classes; 3])> {
        let mut splits: [Classes; 3] = Default::default();
        for SplitFolder { split, path, .. } in folders {
            let listing = self.list(path)?;
            let classes = self.classes(path, &listing)?;
            if *split == Split::Train {
                require_pictures(path, &classes)?;
            }
            splits[*split as usize] = classes;
        }
        let names = names(root, &splits)?;
        let is_given = Split::ALL.map(|split| folders.iter().any(|given| given.split == split));
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

    /// Notes what lies beside the splits.
    fn note_others(&mut self, here: &Listing, split_folders: &[SplitFolder]) {
        self.ignore_all(&here.pictures);
        let is_split = |folder: &&PathBuf| split_folders.iter().any(|split| split.path == **folder);
        let others = here.folders.iter().filter(|folder| !is_split(folder));
        let folders: Vec<String> = others
            .map(|folder| name_of(folder).to_string_lossy().into_owned())
            .collect();
        if !folders.is_empty() {
            self.warnings.push(DataWarning::FoldersIgnored { folders });
        }
    }
}

/// Says that a folder holds pictures where class folders belong.
pub(super) fn no_class_folders(folder: &Path) -> DataError {
    DataError::NotADataset {
        path: folder.to_owned(),
        what: "a folder of pictures without classes".to_owned(),
        advice: "put the pictures of each class into a folder with its name",
    }
}
