//! The published data sets of CoOp's protocol in their own layouts: `table` lists them, a file for each layout opens it.

mod aircraft;
mod imagenet;
pub(super) mod table;
mod unsplit;

use std::path::Path;

use self::table::{ALL, COOP, Source};
use super::dataset::Dataset;
use super::error::Result;

/// Opens a folder without split file, if it is laid out as one of the published data sets.
pub(super) fn open(folder: &Path, seed: u64) -> Result<Option<Dataset>> {
    let Some(published) = ALL.iter().find(|published| published.is_in(folder)) else {
        return Ok(None);
    };
    let dataset = match &published.source {
        Source::SplitFile(Some(clean_ups)) => unsplit::open(folder, published, clean_ups, seed),
        Source::SplitFile(None) => Err(published.lacks(folder, &published.split_file(), COOP)),
        Source::VariantLists => aircraft::open(folder, published),
        Source::WordNetSplits => imagenet::open_splits(folder, published),
        Source::WordNetTest { all_classes } => imagenet::open_test(folder, published, *all_classes),
        Source::NumberedTest => imagenet::open_numbered(folder, published),
    };
    dataset.map(Some)
}
