//! A run on the screen.

use std::cell::RefCell;
use std::ops::ControlFlow;

use contextune::features::EncodingWatcher;
use contextune::run::RunWatcher;
use contextune::train::EpochMetrics;
use indicatif::ProgressBar;

use crate::interrupt::Learning;
use crate::options::Context;

/// Shows progress and remarks, and ends a run after the epoch if the user wants to stop.
#[derive(Debug)]
pub struct Watch<'a> {
    context: &'a Context,
    remarks: bool,
    encoding: RefCell<Option<ProgressBar>>,
    training: RefCell<Option<(ProgressBar, Learning<'a>)>>,
}

impl<'a> Watch<'a> {
    /// Nothing on the screen yet.
    pub fn new(context: &'a Context) -> Self {
        Self {
            context,
            remarks: true,
            encoding: RefCell::default(),
            training: RefCell::default(),
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
    fn begin(&self, epochs_done: usize, epochs: usize) {
        let bar = self.context.screen.bar("train", epochs);
        bar.set_position(epochs_done as u64);
        bar.reset_eta();
        *self.training.borrow_mut() = Some((bar, self.context.interrupt.learning()));
    }

    fn epoch(&self, metrics: &EpochMetrics, epochs: usize) -> ControlFlow<()> {
        let stop = self.context.interrupt.is_wanted();
        let mut training = self.training.borrow_mut();
        if let Some((bar, _)) = &*training {
            bar.set_position(metrics.epoch as u64);
            let (loss, accuracy) = (metrics.loss, metrics.accuracy);
            bar.set_message(format!("loss {loss:.3}, accuracy {accuracy:.2}"));
            if stop || metrics.epoch == epochs {
                bar.finish_and_clear();
                *training = None;
            }
        }
        match stop {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}
