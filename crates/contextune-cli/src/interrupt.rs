//! Ctrl-C: while something is learned the first ends the run after its epoch, any other ends the process at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};

/// What shells expect of a process that was interrupted: 128 and the signal's number.
pub const EXIT_CODE: u8 = 130;

/// Knows whether the user wants to stop.
#[derive(Debug)]
pub struct Interrupt {
    learning: Arc<AtomicBool>,
    wanted: Arc<AtomicBool>,
}

/// While this lives, the first Ctrl-C waits for the end of the epoch.
#[derive(Debug)]
pub struct Learning<'a>(&'a Interrupt);

impl Interrupt {
    /// Listens from now on; once in a process.
    pub fn listen() -> Result<Self> {
        let interrupt = Self {
            learning: Arc::default(),
            wanted: Arc::default(),
        };
        let (learning, wanted) = (
            Arc::clone(&interrupt.learning),
            Arc::clone(&interrupt.wanted),
        );
        ctrlc::set_handler(move || {
            if !learning.load(Ordering::SeqCst) || wanted.swap(true, Ordering::SeqCst) {
                std::process::exit(EXIT_CODE.into());
            }
            eprintln!("stopping after this epoch; Ctrl-C again stops at once");
        })
        .context("cannot listen for Ctrl-C")?;
        Ok(interrupt)
    }

    /// Something is learned from now on.
    pub fn learning(&self) -> Learning<'_> {
        self.learning.store(true, Ordering::SeqCst);
        Learning(self)
    }

    /// Whether to stop.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }
}

impl Drop for Learning<'_> {
    fn drop(&mut self) {
        self.0.learning.store(false, Ordering::SeqCst);
    }
}

/// A run that the user stopped, saved to go on.
#[derive(Debug)]
pub struct Stopped {
    /// The run folder.
    pub run: PathBuf,
    /// Epochs done.
    pub epochs_done: usize,
    /// Epochs of the whole run.
    pub epochs: usize,
}

impl Stopped {
    /// An error if the run has not reached its last epoch.
    pub fn check(run: &Path, epochs_done: usize, epochs: usize) -> Result<(), Self> {
        match epochs_done < epochs {
            true => Err(Self {
                run: run.into(),
                epochs_done,
                epochs,
            }),
            false => Ok(()),
        }
    }
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "stopped after epoch {} of {}; go on with: contextune resume {}",
            self.epochs_done,
            self.epochs,
            self.run.display()
        )
    }
}

impl std::error::Error for Stopped {}
