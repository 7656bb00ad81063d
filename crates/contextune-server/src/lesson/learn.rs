//! Learns what a lesson's plan says, and puts it on the shelf.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use contextune::data;
use contextune::input::EncodingWatcher;
use contextune::run::{self, AnyMeasured, LearnError, RunFolder};
use contextune::task::Classify;
use contextune_report::Grounds;

use super::progress::{LessonHandle, LessonState, LessonWatcher};
use super::upload::{DATA, Plan};
use crate::shelf::{Shelf, ShelfError};

/// The run's folder in a lesson's folder.
pub(super) const RUN: &str = "run";

/// What every lesson is learned with.
#[derive(Debug)]
pub(super) struct Learner {
    /// Root of the feature cache.
    pub cache: Option<PathBuf>,
    /// Pictures that declare more are left out.
    pub pixels: u64,
    pub shelf: Arc<Shelf>,
    /// Whether the server is stopping.
    pub stopping: AtomicBool,
}

impl Learner {
    /// Learns a lesson and puts the model on the shelf. The folder of a lesson that fails or is stopped is removed, unless the
    /// lesson can be resumed.
    pub fn learn(&self, plan: &Plan, lesson: &LessonHandle) {
        let started = Instant::now();
        let watcher = LessonWatcher {
            lesson,
            started,
            stopping: &self.stopping,
            names: &plan.names,
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| self.learned(plan, &watcher)));
        let (state, error) = match &outcome {
            Ok(Ok(_)) => (LessonState::Done, None),
            Ok(Err(Failure::Learn(LearnError::Stopped { .. }) | Failure::Stopped)) => {
                (LessonState::Stopped, None)
            }
            Ok(Err(error)) => (
                LessonState::Failed,
                Some(plan.names.as_sent(&error.to_string())),
            ),
            Err(_) => {
                let error = "the server failed on this lesson; it goes on with others";
                (LessonState::Failed, Some(error.to_owned()))
            }
        };
        // `contextune resume` goes on with what the end of the server stopped.
        let is_kept = state == LessonState::Done
            || (state == LessonState::Stopped && self.stopping.load(Ordering::SeqCst));
        if !is_kept && let Err(error) = fs::remove_dir_all(&plan.folder) {
            watcher.remark(format!("{} is left over: {error}", plan.folder.display()));
        }
        let mut progress = lesson.progress();
        progress.seconds = started.elapsed().as_secs_f64();
        progress.error = error;
        progress.state = state;
        if let Ok(Ok(measured)) = outcome {
            progress.accuracy = measured.map(|(accuracy, _)| accuracy);
            progress.held_out = measured.map_or(0, |(_, pictures)| pictures);
        }
    }

    /// Returns the accuracy on the held-out pictures that could be read and the number of these pictures; `None` if there are
    /// none.
    fn learned(
        &self,
        plan: &Plan,
        watcher: &LessonWatcher<'_>,
    ) -> Result<Option<(f32, usize)>, Failure> {
        let Plan {
            settings, backbone, ..
        } = plan;
        let model = &backbone.model;
        settings.check(model).map_err(LearnError::from)?;
        let dataset =
            data::open(&plan.folder.join(DATA), settings.split_seed()).map_err(LearnError::from)?;
        let folder =
            RunFolder::create(&plan.folder.join(RUN), settings, false).map_err(LearnError::from)?;
        let encoder = run::encoder(settings, model, self.cache.clone())
            .map_err(LearnError::from)?
            .refusing_above(self.pixels);
        let outcome = run::learn(settings, &dataset, model, &encoder, &folder, watcher)?;
        let grounds = Grounds {
            folder: &folder,
            model,
            dataset: &dataset,
            cache: self.cache.as_deref(),
            measured: outcome.measured.as_ref(),
        };
        // The run is whole without it.
        if let Err(error) = grounds.write_page(watcher) {
            watcher.remark(format!("there is no report: {error}"));
        }
        let measured = outcome.measured.as_ref();
        let measured = measured.and_then(AnyMeasured::of::<Classify>);
        let pictures = measured.map_or(0, |measured| measured.examples.len());
        let measured = outcome.result.accuracy.map(|accuracy| (accuracy, pictures));
        // A method without epochs could not be stopped before.
        if watcher.lesson.is_stopped() {
            return Err(Failure::Stopped);
        }
        self.shelf
            .add_learned(&plan.name, folder.path(), true, backbone)?;
        Ok(measured)
    }
}

/// Why a lesson failed or ended early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Learn(#[from] LearnError),
    #[error("there is a model {0:?} already: teach it again under another name")]
    NameTaken(String),
    #[error(transparent)]
    Shelf(ShelfError),
    #[error("it was stopped")]
    Stopped,
}

impl From<ShelfError> for Failure {
    fn from(error: ShelfError) -> Self {
        match error {
            // The shelf's own words are for the command line, which names runs.
            ShelfError::SameName { name, .. } => Self::NameTaken(name),
            error => Self::Shelf(error),
        }
    }
}
