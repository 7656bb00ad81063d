//! FGVC-Aircraft: `variants.txt` names the classes, and a list for each split says which picture shows which.

use std::collections::HashMap;
use std::path::Path;

use super::table::PublishedDataset;
use crate::data::dataset::{Dataset, DatasetKind, Example, Input};
use crate::data::error::{DataError, Result};
use crate::data::split::Split;
use crate::data::{class_names, coop_split, few_shot_file};

const ARCHIVE: &str = "its pictures (in data/ of fgvc-aircraft-2013b.tar.gz)";

pub(super) fn open(folder: &Path, published: &'static PublishedDataset) -> Result<Dataset> {
    let variants = published.file(folder, "variants.txt", ARCHIVE)?;
    let class_names = class_names::read_lines(&variants)?;
    class_names::check(&variants.display().to_string(), &class_names)?;
    let labels: HashMap<&str, usize> = class_names
        .iter()
        .enumerate()
        .map(|(label, name)| (name.as_str(), label))
        .collect();

    let root = published.pictures(folder);
    let mut splits: [Vec<Example>; 3] = Default::default();
    for (examples, split) in splits.iter_mut().zip(Split::ALL) {
        let name = format!("images_variant_{split}.txt");
        let list = published.file(folder, &name, ARCHIVE)?;
        *examples = read_list(&list, &root, &labels)?;
    }
    let [train, val, test] = splits;
    let dataset = Dataset {
        root,
        kind: DatasetKind::PublishedLayout,
        published: Some(published),
        class_names,
        train,
        val,
        test,
        features: None,
        few_shot_files: Some(folder.join(few_shot_file::FOLDER)),
        warnings: Vec::new(),
    };
    dataset.require_examples(&variants)?;
    Ok(dataset)
}

/// Reads lines such as `0034309 707-320`: the picture is `0034309.jpg`.
fn read_list(list: &Path, root: &Path, labels: &HashMap<&str, usize>) -> Result<Vec<Example>> {
    let mut examples = Vec::new();
    for (number, line) in (1..).zip(class_names::read_lines(list)?) {
        let wrong = |what: String| DataError::ListLine {
            path: list.to_owned(),
            line: number,
            what,
        };
        let (picture, variant) = line.split_once(' ').ok_or_else(|| {
            wrong(format!(
                "{line:?} is no picture and variant, such as \"0034309 707-320\""
            ))
        })?;
        let &label = labels
            .get(variant.trim())
            .ok_or_else(|| wrong(format!("{variant:?} is not in variants.txt")))?;
        let picture = format!("{picture}.jpg");
        let path = root.join(coop_split::checked(list, &picture)?);
        if examples.is_empty() && !path.is_file() {
            return Err(DataError::PicturesNotFound {
                path: list.to_owned(),
                listed: picture,
                folders: vec![root.display().to_string()],
            });
        }
        examples.push(Example {
            input: Input::Picture(path),
            label,
        });
    }
    Ok(examples)
}
