//! A run on the screen.

use std::cell::RefCell;
use std::ops::ControlFlow;

use contextune::input::EncodingWatcher;
use contextune::run::RunWatcher;
use contextune::train::{EpochMetrics, Progress};
use indicatif::ProgressBar;

use crate::interrupt::{AFTER_THIS_EPOCH, Gentle};
use crate::options::Context;
use crate::training::Training;

/// Shows progress and remarks, and ends a run after the epoch if the user wants to stop.
#[derive(Debug)]
pub struct Watch<'a> {
    context: &'a Context,
    remarks: bool,
    /// Whether training is told in lines where there is no terminal.
    lines: bool,
    encoding: RefCell<Option<ProgressBar>>,
    training: RefCell<Option<(Training, Gentle<'a>)>>,
}

impl<'a> Watch<'a> {
    /// Nothing on the screen yet.
    pub fn new(context: &'a Context) -> Self {
        Self {
            context,
            remarks: true,
            lines: false,
            encoding: RefCell::default(),
            training: RefCell::default(),
        }
    }

    /// For the one run that a command is about: where there is no terminal, lines tell of its training.
    pub fn of_the_run(context: &'a Context) -> Self {
        Self {
            lines: true,
            ..Self::new(context)
        }
    }

    /// Progress alone, where everything worth a remark was said before.
    pub fn without_remarks(context: &'a Context) -> Self {
        Self {
            remarks: false,
            ..Self::new(context)
        }
    }
}

impl EncodingWatcher for Watch<'_> {
    fn encoded(&self, done: usize, all: usize) {
        let mut bar = self.encoding.borrow_mut();
        let shown = bar.get_or_insert_with(|| self.context.screen.bar("encode", all));
        shown.set_position(done as u64);
        if done >= all {
            shown.finish_and_clear();
            *bar = None;
        }
    }

    fn remark(&self, text: String) {
        if self.remarks {
            self.context.screen.remark(text);
        }
    }
}

impl RunWatcher for Watch<'_> {
    fn begin(&self) {
        let training = Training::new(&self.context.screen, self.lines);
        let gentle = self.context.interrupt.gentle(AFTER_THIS_EPOCH);
        *self.training.borrow_mut() = Some((training, gentle));
    }

    fn step(&self, progress: Progress, loss: f32) {
        if let Some((training, _)) = &mut *self.training.borrow_mut() {
            training.step(progress, loss);
        }
    }

    fn epoch(&self, metrics: &EpochMetrics, epochs: usize) -> ControlFlow<()> {
        let stop = self.context.interrupt.is_wanted();
        let mut training = self.training.borrow_mut();
        if let Some((shown, _)) = &mut *training {
            shown.epoch(metrics, epochs);
            if stop || metrics.epoch == epochs {
                shown.finish();
                *training = None;
            }
        }
        match stop {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}
