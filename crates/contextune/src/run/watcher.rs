//! Who watches a run.

use std::ops::ControlFlow;

use crate::input::EncodingWatcher;
use crate::train::{EpochMetrics, Progress};

/// Watches a run.
pub trait RunWatcher: EncodingWatcher {
    /// Called before the first step.
    fn begin(&self);

    /// Called after every step, with its loss.
    fn step(&self, progress: Progress, loss: f32);

    /// Called after every epoch, of so many; `Break` ends the run with what is learned so far saved.
    fn epoch(&self, metrics: &EpochMetrics, epochs: usize) -> ControlFlow<()>;
}

/// Nobody watches.
impl EncodingWatcher for () {
    fn encoded(&self, _done: usize, _all: usize) {}

    fn remark(&self, _text: String) {}
}

impl RunWatcher for () {
    fn begin(&self) {}

    fn step(&self, _progress: Progress, _loss: f32) {}

    fn epoch(&self, _metrics: &EpochMetrics, _epochs: usize) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
