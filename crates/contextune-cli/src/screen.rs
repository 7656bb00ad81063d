//! Progress and remarks on standard error; standard output belongs to the answer.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Where a person looks while a command works.
#[derive(Debug)]
pub struct Screen {
    quiet: bool,
}

impl Screen {
    /// A quiet screen shows nothing.
    pub fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    /// One line about something noteworthy.
    pub fn remark(&self, text: impl std::fmt::Display) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// A bar over `length` units of work; invisible where standard error is not a terminal.
    pub fn bar(&self, what: &str, length: usize) -> ProgressBar {
        let bar = match self.quiet {
            true => ProgressBar::hidden(),
            false => ProgressBar::new(length as u64),
        };
        let style =
            ProgressStyle::with_template("{prefix:>12} {bar:32} {pos}/{len} {msg} ({eta} left)")
                .expect("the template is valid");
        bar.set_style(style);
        bar.set_prefix(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    /// A bar over bytes of an unknown number, for downloads.
    pub fn bytes(&self, what: &str) -> ProgressBar {
        let bar = match self.quiet {
            true => ProgressBar::hidden(),
            false => ProgressBar::no_length(),
        };
        let style = ProgressStyle::with_template(
            "{prefix:>12} {bar:32} {bytes}/{total_bytes} {msg} ({eta} left)",
        )
        .expect("the template is valid");
        bar.set_style(style);
        bar.set_prefix(what.to_owned());
        bar
    }
}
