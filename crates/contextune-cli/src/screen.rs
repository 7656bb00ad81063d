//! Progress and remarks on standard error; standard output belongs to the answer.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::note;
use crate::style::WARNING;

/// How often bars are drawn while nothing happens, so that the time left goes on.
const TICK: Duration = Duration::from_millis(200);

/// Where a person looks while a command works. Clones share one screen.
#[derive(Clone, Debug)]
pub struct Screen {
    quiet: bool,
    /// All bars, so that a line between them does not tear them.
    bars: MultiProgress,
}

impl Screen {
    /// A quiet screen shows nothing.
    pub fn new(quiet: bool) -> Self {
        let target = match quiet {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        };
        Self {
            quiet,
            bars: MultiProgress::with_draw_target(target),
        }
    }

    /// Whether bars can be seen: standard error is a terminal, and not quiet.
    pub fn shows_bars(&self) -> bool {
        !self.bars.is_hidden()
    }

    /// One line about something noteworthy, above whatever bars there are.
    pub fn remark(&self, text: impl std::fmt::Display) {
        if !self.quiet {
            self.bars.suspend(|| note!("{text}"));
        }
    }

    /// A remark about something that may be wrong.
    pub fn warning(&self, text: impl std::fmt::Display) {
        if !self.quiet {
            let print = || note!("{WARNING}{text}{WARNING:#}");
            self.bars.suspend(print);
        }
    }

    /// A bar over `length` units of work; invisible where standard error is not a terminal.
    pub fn bar(&self, what: &str, length: usize) -> ProgressBar {
        let template = "{prefix:>12} {bar:32} {pos}/{len} {msg} ({eta} left)";
        let bar = self.add(ProgressBar::new(length as u64), template, what);
        bar.enable_steady_tick(TICK);
        bar
    }

    /// A bar over bytes of an unknown number, for downloads.
    pub fn bytes(&self, what: &str) -> ProgressBar {
        let template = "{prefix:>12} {bar:32} {bytes}/{total_bytes} {msg} ({eta} left)";
        self.add(ProgressBar::no_length(), template, what)
    }

    /// A bar that says in its message, of two lines, how far it is.
    pub fn wordy_bar(&self, what: &str) -> ProgressBar {
        let bar = self.add(ProgressBar::new(1), "{prefix:>12} {bar:24} {msg}", what);
        bar.enable_steady_tick(TICK);
        bar
    }

    fn add(&self, bar: ProgressBar, template: &str, what: &str) -> ProgressBar {
        let style = ProgressStyle::with_template(template).expect("the template is valid");
        let bar = self.bars.add(bar.with_style(style));
        bar.set_prefix(what.to_owned());
        bar
    }
}
