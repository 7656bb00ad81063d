//! Data sets as CoOp lays them out: a folder of pictures and `split_zhou_*.json`, which lists the examples.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::dataset::{Dataset, DatasetKind, Example, Input};
use super::error::{DataError, Result};
use super::published::table;
use super::{class_names, few_shot_file};

/// The JSON of a split file: relative path, label, class name.
#[derive(Deserialize)]
struct Lists {
    train: Vec<(String, usize, String)>,
    val: Vec<(String, usize, String)>,
    test: Vec<(String, usize, String)>,
}

/// Returns the split file in a folder, if it has one.
pub(super) fn find(folder: &Path) -> Result<Option<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::io(folder))? {
        let entry = entry.map_err(DataError::io(folder))?;
        if let Some(name) = entry.file_name().to_str()
            && name.starts_with("split_zhou_")
            && name.ends_with(".json")
            && entry.path().is_file()
        {
            files.push(name.to_owned());
        }
    }
    files.sort();
    match files.as_slice() {
        [] => Ok(None),
        [file] => Ok(Some(folder.join(file))),
        _ => Err(DataError::SeveralSplitFiles {
            path: folder.to_owned(),
            files,
        }),
    }
}

pub(super) fn open(folder: &Path, split_file: &Path) -> Result<Dataset> {
    let text = fs::read_to_string(split_file).map_err(DataError::io(split_file))?;
    let mut lists: Lists = serde_json::from_str(&text).map_err(|error| DataError::SplitFile {
        path: split_file.to_owned(),
        what: error.to_string(),
    })?;
    lists.separate_by_slashes();
    let class_names = read_class_names(split_file, &lists)?;
    let root = find_pictures(folder, split_file, &lists)?;
    let examples = |list: &[(String, usize, String)]| -> Result<Vec<Example>> {
        list.iter()
            .map(|(listed, label, _)| {
                Ok(Example {
                    input: Input::Picture(root.join(checked(split_file, listed)?)),
                    label: *label,
                })
            })
            .collect()
    };
    let file_name = split_file.file_name().unwrap_or_default();
    let dataset = Dataset {
        kind: DatasetKind::CoopSplit,
        published: table::of_split_file(&file_name.to_string_lossy()),
        class_names,
        train: examples(&lists.train)?,
        val: examples(&lists.val)?,
        test: examples(&lists.test)?,
        features: None,
        few_shot_files: Some(folder.join(few_shot_file::FOLDER)),
        warnings: Vec::new(),
        root,
    };
    dataset.require_examples(split_file)?;
    Ok(dataset)
}

impl Lists {
    /// Makes paths as Windows writes them, with backslashes alone, those of other systems.
    fn separate_by_slashes(&mut self) {
        let all = [&mut self.train, &mut self.val, &mut self.test];
        let mut paths: Vec<&mut String> =
            all.into_iter().flatten().map(|(path, ..)| path).collect();
        if !paths.iter().any(|path| path.contains('/')) {
            for path in &mut paths {
                **path = path.replace('\\', "/");
            }
        }
    }
}

/// Names by label, after checking that labels are 0..K and that labels and names stand for each other.
fn read_class_names(path: &Path, lists: &Lists) -> Result<Vec<String>> {
    let wrong = |what: String| DataError::SplitFile {
        path: path.to_owned(),
        what,
    };
    let mut names: BTreeMap<usize, &String> = BTreeMap::new();
    let mut labels: HashMap<&String, usize> = HashMap::new();
    for (listed, label, name) in lists.train.iter().chain(&lists.val).chain(&lists.test) {
        let known = *names.entry(*label).or_insert(name);
        if known != name {
            return Err(wrong(format!(
                "label {label} is {known:?} first and {name:?} for {listed:?}"
            )));
        }
        let known = *labels.entry(name).or_insert(*label);
        if known != *label {
            return Err(wrong(format!(
                "class {name:?} has label {known} first and label {label} for {listed:?}"
            )));
        }
    }
    if let Some((expected, (found, _))) = (0..)
        .zip(&names)
        .find(|(expected, (found, _))| expected != *found)
    {
        return Err(wrong(format!(
            "labels must be 0, 1, 2, ... without gaps, but after {expected} labels comes {found}"
        )));
    }
    let names: Vec<String> = names.into_values().cloned().collect();
    class_names::check(&path.display().to_string(), &names)?;
    Ok(names)
}

/// Returns the folder that the listed paths are relative to: the first that has the first picture of any split. A data
/// set of one's own may have its pictures where any published one has them.
fn find_pictures(folder: &Path, path: &Path, lists: &Lists) -> Result<PathBuf> {
    let first_pictures: Vec<&String> = [&lists.train, &lists.val, &lists.test]
        .into_iter()
        .filter_map(|list| Some(&list.first()?.0))
        .collect();
    let Some(listed) = first_pictures.first() else {
        return Err(DataError::SplitFile {
            path: path.to_owned(),
            what: "it lists no pictures".to_owned(),
        });
    };
    let picture_folders = table::picture_folders();
    for below in &picture_folders {
        let root = folder.join(below);
        for listed in &first_pictures {
            if root.join(checked(path, listed)?).is_file() {
                return Ok(root);
            }
        }
    }
    Err(DataError::PicturesNotFound {
        path: path.to_owned(),
        listed: (*listed).clone(),
        folders: picture_folders
            .iter()
            .map(|below| folder.join(below).display().to_string())
            .collect(),
    })
}

/// Checks that a listed path stays below the folder that it is relative to.
pub(super) fn checked<'a>(path: &Path, listed: &'a str) -> Result<&'a Path> {
    let relative = Path::new(listed);
    let mut parts = relative.components().peekable();
    if parts.peek().is_some()
        && parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    {
        Ok(relative)
    } else {
        Err(DataError::UnsafePath {
            path: path.to_owned(),
            listed: listed.to_owned(),
        })
    }
}
