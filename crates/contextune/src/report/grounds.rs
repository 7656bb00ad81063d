//! What a page is made from, and which kind of page each task has.

use std::path::{Path, PathBuf};

use super::ReportError;
use super::gather::RunReport;
use crate::input::EncodingWatcher;
use crate::model::Model;
use crate::run::{AnyMeasured, RunFolder};
use crate::task::{Classify, Task as _, TaskDataset};

/// Measures a run and writes its page, as HTML.
type Page = fn(&Grounds<'_>, &dyn EncodingWatcher) -> Result<String, ReportError>;

/// The page of each task, by its name.
const PAGES: &[(&str, Page)] = &[(Classify::NAME, |grounds, watcher| {
    Ok(RunReport::gather(grounds, watcher)?.page())
})];

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

impl Grounds<'_> {
    /// Writes the page of the run into its folder.
    ///
    /// # Errors
    /// As [`Self::page`], and a page that cannot be written.
    pub fn write_page(&self, watcher: &dyn EncodingWatcher) -> Result<PathBuf, ReportError> {
        Ok(self.folder.write_report(&self.page(watcher)?)?)
    }

    /// Returns the page of the run, as HTML.
    ///
    /// # Errors
    /// A task without a page, and whatever cannot be measured.
    pub fn page(&self, watcher: &dyn EncodingWatcher) -> Result<String, ReportError> {
        let task = self.folder.run_settings()?.method.task();
        match PAGES.iter().find(|(name, _)| *name == task) {
            Some((_, page)) => page(self, watcher),
            None => Err(ReportError::NoPage { task }),
        }
    }
}
