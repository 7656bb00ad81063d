//! Published data sets whose split file is not there, as folders of classes under the published names.

use std::path::Path;

use super::table::{CleanUps, PublishedDataset};
use crate::data::class_folders::{labelled, require_pictures, split_by_seed};
use crate::data::class_names;
use crate::data::dataset::{Dataset, DatasetKind};
use crate::data::error::{DataWarning, Result};
use crate::data::folder_reader::Reader;

/// Opens the class folders and splits them by the seed.
pub(super) fn open(
    folder: &Path,
    published: &'static PublishedDataset,
    clean_ups: &CleanUps,
    seed: u64,
) -> Result<Dataset> {
    let root = published.pictures(folder);
    let mut reader = Reader::default();
    let listing = reader.list(&root)?;
    let mut classes = reader.classes(&root, &listing)?;
    for left_out in clean_ups.left_out {
        classes.remove(*left_out);
    }
    require_pictures(&root, &classes)?;
    // As published, the order of folders decides the labels, not that of names.
    let folders: Vec<String> = classes.keys().cloned().collect();
    let class_names: Vec<String> = folders
        .iter()
        .map(|folder| clean_ups.class_name(folder).to_owned())
        .collect();
    class_names::check(&root.display().to_string(), &class_names)?;
    let splits = split_by_seed(classes, seed);
    let [train, val, test] = splits.map(|classes| labelled(classes, &folders));
    reader.warnings.push(DataWarning::NoSplitFile {
        file: published.split_file(),
        seed,
    });
    Ok(Dataset {
        root,
        kind: DatasetKind::ClassFolders,
        published: Some(published),
        class_names,
        train,
        val,
        test,
        features: None,
        // They are of the published split.
        few_shot_files: None,
        warnings: reader.into_warnings(),
    })
}
