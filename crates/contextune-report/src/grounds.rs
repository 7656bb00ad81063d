//! What a page is made from.

use std::path::Path;

use contextune::model::Model;
use contextune::run::{AnyMeasured, RunFolder};
use contextune::task::TaskDataset;

/// What a report is made from.
#[derive(Clone, Copy, Debug)]
pub struct Grounds<'a> {
    /// The run's folder.
    pub folder: &'a RunFolder,
    /// The model it was learned with.
    pub model: &'a Model,
    /// Its data set, neither sampled nor cut.
    pub dataset: &'a dyn TaskDataset,
    /// Where features are kept.
    pub cache: Option<&'a Path>,
    /// What the run has just been measured as; absent: it is measured again.
    pub measured: Option<&'a AnyMeasured>,
}
