//! How far a lesson is: what its thread reports and clients ask for.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use contextune::input::EncodingWatcher;
use contextune::run::RunWatcher;
use contextune::train::{self as training, EpochMetrics};
use serde::Serialize;
use utoipa::ToSchema;

use super::names::PictureNames;

/// How far a lesson is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Progress)]
pub(crate) struct LessonProgress {
    name: String,
    pub(super) state: LessonState,
    /// Pictures that went through the image tower, and how many have to.
    encoded: usize,
    to_encode: usize,
    epochs_done: usize,
    epochs: usize,
    /// Loss and share of the training pictures that were right, epoch by epoch.
    curve: Vec<Point>,
    /// What a person should know.
    remarks: Vec<String>,
    /// Why it failed.
    pub(super) error: Option<String>,
    /// Share of the held-out pictures that it classifies rightly; absent if none were held out.
    pub(super) accuracy: Option<f32>,
    /// Pictures that were held out to measure on: every fifth of a class that has five or more.
    pub(super) held_out: usize,
    /// Seconds so far.
    pub(super) seconds: f64,
}

/// What a lesson is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum LessonState {
    /// Pictures become features.
    Encoding,
    /// The prompt is learned.
    Learning,
    /// The model can be asked.
    Done,
    /// See `error`.
    Failed,
    /// It was ended before its last epoch.
    Stopped,
}

/// An epoch of the curve.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
struct Point {
    epoch: usize,
    loss: f32,
    accuracy: f32,
}

/// What a lesson's thread shares with the requests that ask about it.
#[derive(Debug)]
pub(super) struct LessonHandle {
    progress: Mutex<LessonProgress>,
    stop: AtomicBool,
}

impl LessonHandle {
    /// Creates the handle of a lesson that has not started, with `held_out` pictures to measure on.
    pub fn new(name: String, held_out: usize) -> Self {
        Self {
            progress: Mutex::new(LessonProgress {
                name,
                state: LessonState::Encoding,
                encoded: 0,
                to_encode: 0,
                epochs_done: 0,
                epochs: 0,
                curve: Vec::new(),
                remarks: Vec::new(),
                error: None,
                accuracy: None,
                held_out,
                seconds: 0.0,
            }),
            stop: AtomicBool::new(false),
        }
    }

    /// Locks the progress.
    pub fn progress(&self) -> MutexGuard<'_, LessonProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the lesson to end after its epoch.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Checks whether the lesson was asked to end.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// Keeps a lesson's progress up to date while it is learned.
pub(super) struct LessonWatcher<'a> {
    pub lesson: &'a LessonHandle,
    pub started: Instant,
    /// Whether the server is stopping.
    pub stopping: &'a AtomicBool,
    pub names: &'a PictureNames,
}

impl LessonWatcher<'_> {
    /// Checks whether the epoch that has just ended is the last, because the lesson or the server is being stopped.
    fn is_over(&self) -> bool {
        self.lesson.is_stopped() || self.stopping.load(Ordering::SeqCst)
    }
}

impl EncodingWatcher for LessonWatcher<'_> {
    fn encoded(&self, done: usize, all: usize) {
        let mut progress = self.lesson.progress();
        (progress.encoded, progress.to_encode) = (done, all);
        progress.seconds = self.started.elapsed().as_secs_f64();
    }

    fn remark(&self, text: String) {
        let text = self.names.as_sent(&text);
        self.lesson.progress().remarks.push(text);
    }
}

impl RunWatcher for LessonWatcher<'_> {
    fn begin(&self) {
        self.lesson.progress().state = LessonState::Learning;
    }

    fn step(&self, step: training::Progress, _loss: f32) {
        let mut progress = self.lesson.progress();
        progress.epochs = step.epochs;
        progress.seconds = self.started.elapsed().as_secs_f64();
    }

    fn epoch(&self, metrics: &EpochMetrics, epochs: usize) -> ControlFlow<()> {
        let mut progress = self.lesson.progress();
        (progress.epochs_done, progress.epochs) = (metrics.epoch, epochs);
        progress.curve.push(Point {
            epoch: metrics.epoch,
            loss: metrics.loss,
            accuracy: metrics.accuracy,
        });
        progress.seconds = self.started.elapsed().as_secs_f64();
        match self.is_over() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lesson_reports_what_its_client_can_understand() {
        let lesson = LessonHandle::new("pets".into(), 2);
        let mut names = PictureNames::new(["lessons/pets/data".into()]);
        names.insert("train/cat/00001.png".as_ref(), "my cat.png".into());
        let stopping = AtomicBool::new(false);
        let watcher = LessonWatcher {
            lesson: &lesson,
            started: Instant::now(),
            stopping: &stopping,
            names: &names,
        };
        watcher.encoded(3, 12);
        watcher.remark("lessons/pets/data/train/cat/00001.png: cut short".into());
        let progress = serde_json::to_value(&*lesson.progress()).unwrap();
        assert_eq!(progress["name"], "pets");
        assert_eq!(progress["state"], "encoding");
        assert_eq!(
            (&progress["encoded"], &progress["to_encode"]),
            (&3.into(), &12.into())
        );
        assert_eq!(progress["remarks"][0], "my cat.png: cut short");
        assert_eq!(progress["held_out"], 2);
        assert!(progress["seconds"].as_f64().unwrap() > 0.0);
        assert!(progress["accuracy"].is_null() && progress["error"].is_null());
        watcher.begin();
        assert_eq!(lesson.progress().state, LessonState::Learning);
    }

    #[test]
    fn a_lesson_ends_after_its_epoch_when_it_or_the_server_is_stopped() {
        let lesson = LessonHandle::new("pets".into(), 0);
        let stopping = AtomicBool::new(false);
        let names = PictureNames::new([]);
        let watcher = LessonWatcher {
            lesson: &lesson,
            started: Instant::now(),
            stopping: &stopping,
            names: &names,
        };
        assert!(!watcher.is_over());
        stopping.store(true, Ordering::SeqCst);
        assert!(watcher.is_over());
        stopping.store(false, Ordering::SeqCst);
        lesson.stop();
        assert!(watcher.is_over() && lesson.is_stopped());
    }
}
