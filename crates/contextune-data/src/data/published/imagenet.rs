//! ImageNet and its variants: class folders whose names stand for classes, and `classnames.txt`, which names these.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::table::{COOP, PublishedDataset};
use crate::data::class_folders::no_class_folders;
use crate::data::class_names::{self, is_wordnet_id};
use crate::data::dataset::{Dataset, DatasetKind, Example, Input};
use crate::data::error::{DataError, DataWarning, Result};
use crate::data::few_shot_file;
use crate::data::folder_reader::{Classes, Reader};

const LIST: &str = "classnames.txt";

/// Opens `images/{train,val}/n01440764/`: what is in `val/` serves as val and test.
pub(super) fn open_splits(folder: &Path, published: &'static PublishedDataset) -> Result<Dataset> {
    let names = Names::read(folder, published)?;
    let pictures = published.pictures(folder);
    let mut reader = Reader::default();
    let mut splits: [Classes; 2] = Default::default();
    for (split, name) in splits.iter_mut().zip(["train", "val"]) {
        let split_folder = pictures.join(name);
        if split_folder.is_dir() {
            *split = class_folders(&mut reader, &split_folder)?;
        }
    }
    let folders: BTreeSet<&String> = splits.iter().flat_map(|classes| classes.keys()).collect();
    let folders: Vec<String> = folders.into_iter().cloned().collect();
    let class_names = names.of_folders(&folders, true, &mut reader)?;
    let [train, val] = splits.map(|classes| examples(classes, &folders));
    let dataset = Dataset {
        train,
        test: val.clone(),
        val,
        ..dataset(folder, published, class_names, reader)
    };
    dataset.require_examples(&pictures)?;
    dataset.require_training(&pictures)?;
    Ok(dataset)
}

/// Opens `n01440764/` directly below the pictures' folder; without `all_classes`, those are the classes there are.
pub(super) fn open_test(
    folder: &Path,
    published: &'static PublishedDataset,
    all_classes: bool,
) -> Result<Dataset> {
    let names = Names::read(folder, published)?;
    let pictures = published.pictures(folder);
    let mut reader = Reader::default();
    let classes = class_folders(&mut reader, &pictures)?;
    let folders: Vec<String> = classes.keys().cloned().collect();
    let class_names = names.of_folders(&folders, all_classes, &mut reader)?;
    let dataset = Dataset {
        test: examples(classes, &folders),
        ..dataset(folder, published, class_names, reader)
    };
    dataset.require_examples(&pictures)?;
    Ok(dataset)
}

/// Opens `0/`, `1/`, ...: the class of folder i is that of line i of the list, counted from 0.
pub(super) fn open_numbered(
    folder: &Path,
    published: &'static PublishedDataset,
) -> Result<Dataset> {
    let names = Names::read(folder, published)?;
    let pictures = published.pictures(folder);
    let mut reader = Reader::default();
    let classes = class_folders(&mut reader, &pictures)?;
    let folders: Vec<String> = (0..names.lines.len())
        .map(|line| line.to_string())
        .collect();
    if let Some(unknown) = classes.keys().find(|name| !folders.contains(name)) {
        return Err(DataError::ClassFolderUnknown {
            path: pictures.join(unknown),
            list: names.path,
        });
    }
    let class_names = names.lines.iter().map(|(_, name)| name.clone()).collect();
    let class_names = names.checked(class_names, &mut reader)?;
    let dataset = Dataset {
        test: examples(classes, &folders),
        ..dataset(folder, published, class_names, reader)
    };
    dataset.require_examples(&pictures)?;
    Ok(dataset)
}

/// The lines of `classnames.txt`.
struct Names {
    path: PathBuf,
    /// WordNet id and class name.
    lines: Vec<(String, String)>,
}

impl Names {
    fn read(folder: &Path, published: &PublishedDataset) -> Result<Self> {
        let path = published.file(folder, LIST, COOP)?;
        let mut lines: Vec<(String, String)> = Vec::new();
        let mut first_lines = HashMap::new();
        for (number, line) in (1..).zip(class_names::read_lines(&path)?) {
            let wrong = |what: String| DataError::ListLine {
                path: path.clone(),
                line: number,
                what,
            };
            let (id, name) = line
                .split_once(' ')
                .filter(|(id, _)| is_wordnet_id(id))
                .ok_or_else(|| {
                    wrong(format!(
                        "{line:?} is no WordNet id and class name, such as \"n01440764 tench\""
                    ))
                })?;
            if let Some(first) = first_lines.insert(id.to_owned(), number) {
                return Err(wrong(format!("{id} has been named in line {first}")));
            }
            lines.push((id.to_owned(), name.trim().to_owned()));
        }
        Ok(Self { path, lines })
    }

    /// Returns the class name of each folder. With `all_classes`, listed classes without a folder are warned of.
    fn of_folders(
        &self,
        folders: &[String],
        all_classes: bool,
        reader: &mut Reader,
    ) -> Result<Vec<String>> {
        let by_id: HashMap<&str, &str> = self
            .lines
            .iter()
            .map(|(id, name)| (id.as_str(), name.as_str()))
            .collect();
        let class_names = folders
            .iter()
            .map(|folder| match by_id.get(folder.as_str()) {
                Some(&name) => Ok(name.to_owned()),
                None => Err(DataError::ClassFolderUnknown {
                    path: folder.into(),
                    list: self.path.clone(),
                }),
            })
            .collect::<Result<_>>()?;
        let missing: Vec<String> = self
            .lines
            .iter()
            .filter(|(id, _)| all_classes && folders.binary_search(id).is_err())
            .map(|(id, name)| format!("{id} {name}"))
            .collect();
        if !missing.is_empty() {
            reader.warnings.push(DataWarning::ClassFoldersMissing {
                list: self.path.clone(),
                classes: missing,
            });
        }
        self.checked(class_names, reader)
    }

    /// Notes equal names: the cleaned list gives one to two classes here and there, and labels keep these apart.
    fn checked(&self, class_names: Vec<String>, reader: &mut Reader) -> Result<Vec<String>> {
        let source_name = self.path.display().to_string();
        let warning = class_names::check_published(&source_name, &class_names)?;
        reader.warnings.extend(warning);
        Ok(class_names)
    }
}

/// Returns the class folders in `pictures`; what lies beside them, such as a README, comes with the data set.
fn class_folders(reader: &mut Reader, pictures: &Path) -> Result<Classes> {
    let mut listing = Reader::default().list(pictures)?;
    if listing.folders.is_empty() {
        return Err(no_class_folders(pictures));
    }
    listing.pictures.clear();
    reader.classes(pictures, &listing)
}

/// Returns the pictures of each class; the label is the place of the class folder in `folders`, which has them all.
fn examples(mut classes: Classes, folders: &[String]) -> Vec<Example> {
    let mut examples = Vec::new();
    for (label, folder) in folders.iter().enumerate() {
        let pictures = classes.remove(folder).unwrap_or_default();
        examples.extend(pictures.into_iter().map(|picture| Example {
            input: Input::Picture(picture),
            label,
        }));
    }
    examples
}

/// Makes the data set without its examples.
fn dataset(
    folder: &Path,
    published: &'static PublishedDataset,
    class_names: Vec<String>,
    reader: Reader,
) -> Dataset {
    Dataset {
        root: published.pictures(folder),
        kind: DatasetKind::PublishedLayout,
        published: Some(published),
        class_names,
        train: Vec::new(),
        val: Vec::new(),
        test: Vec::new(),
        features: None,
        few_shot_files: Some(folder.join(few_shot_file::FOLDER)),
        warnings: reader.into_warnings(),
    }
}
