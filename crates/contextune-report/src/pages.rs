//! The page of each task.

use std::path::PathBuf;

use crate::ReportError;
use crate::gather::RunReport;
use crate::grounds::Grounds;
use contextune::input::EncodingWatcher;
use contextune::task::{Classify, Task as _};

/// Measures a run and writes its page, as HTML.
type Page = fn(&Grounds<'_>, &dyn EncodingWatcher) -> Result<String, ReportError>;

/// The page of each task, by its name.
const PAGES: &[(&str, Page)] = &[(Classify::NAME, |grounds, watcher| {
    Ok(RunReport::gather(grounds, watcher)?.page())
})];

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
