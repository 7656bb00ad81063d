//! A place on disk to examples with labels: a folder of class folders, a CoOp data set, or a features file.
//!
//! [`open`] recognises which; [`Dataset::few_shot`] and then [`Dataset::subset`] cut it down as the published
//! protocols do. Pictures are listed here, not decoded.

mod class_folders;
mod class_names;
mod coop_split;
mod dataset;
mod error;
mod features_file;
mod features_writer;
mod few_shot;
mod few_shot_file;
mod fixed_sample;
mod folder_reader;
mod inspect;
mod named_features;
mod published;
mod python_random;
mod sampling;
mod split;

use std::fs;
use std::path::Path;

pub use class_names::{check as check_class_names, class_list, distinct_names};
pub use dataset::{Dataset, DatasetKind, Example, Input};
pub use error::{DataError, DataWarning, Result};
pub use features_file::FeaturesFile;
pub use features_writer::{FeatureRows, NamedTensor, TensorValues, write_tensors};
pub use folder_reader::is_picture;
pub use inspect::{
    ClassCounts, Copies, Copy, FeatureFacts, Finding, Inspection, PictureFacts, Unreadable, inspect,
};
pub use named_features::{NamedFeatures, NamedRows};
pub use published::table::PublishedDataset;
pub use sampling::{LearnFrom, Sampling};
pub use split::{Split, Subset};

/// Opens the data set at `path`, recognised by its content:
/// - a features file (safetensors with `image_features`, `labels` and class names, see [`FeaturesFile`]);
/// - a folder with a `split_zhou_*.json` and the folder of pictures that it lists;
/// - a published data set in its own layout ([`PublishedDataset`]): FGVC-Aircraft by its lists, ImageNet by
///   `images/{train,val}/n*/` and `classnames.txt`, its variants for evaluation only; EuroSAT, Caltech-101, Food-101 and
///   DTD also without their split files: then split 50/20/30, with class names cleaned up as published;
/// - a folder of class folders, or of `train/`, `val/`, `test/` with class folders below each; also under the names that people give
///   these ([`Split::of_folder`]). A class is named as its folder; its pictures may lie deeper. Without `test/`, `val/` serves as both; with neither, or without any of the
///   three, the pictures of each class are split 50/20/30.
///
/// `seed` decides only that last split. It is the official rule on sorted lists, for ever the same:
/// `random.seed(seed)` in Python, then for the classes in order of their names, the pictures ordered by their paths
/// (component by component, by bytes) are shuffled with `random.shuffle`; the first `round(0.5 * n)` are train, the next
/// `round(0.2 * n)` val, the rest test, but train always has one, and test has one before val does.
///
/// # Errors
/// Every variant of [`DataError`] that speaks of a place on disk.
pub fn open(path: &Path, seed: u64) -> Result<Dataset> {
    let metadata = fs::metadata(path).map_err(DataError::io(path))?;
    let mut dataset = if !metadata.is_dir() {
        Dataset::from_features(FeaturesFile::open(path)?)
    } else if let Some(split_file) = coop_split::find(path)? {
        coop_split::open(path, &split_file)?
    } else if let Some(dataset) = published::open(path, seed)? {
        dataset
    } else {
        class_folders::open(path, seed)?
    };
    if let [class] = dataset.class_names.as_slice() {
        return Err(DataError::SingleClass {
            path: path.to_owned(),
            class: class.clone(),
        });
    }
    dataset.warn_of_missing_examples();
    Ok(dataset)
}
