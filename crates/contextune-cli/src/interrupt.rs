//! Ctrl-C: what asks for it is ended gently by the first; any other ends the process at once.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};

use crate::screen::Screen;

/// What shells expect of a process that was interrupted: 128 and the signal's number.
pub const EXIT_CODE: u8 = 130;

/// What a run promises when it is stopped.
pub const AFTER_THIS_EPOCH: &str = "stopping after this epoch; Ctrl-C again stops at once: going on then repeats this epoch and at most two seconds before it";

/// Knows whether the user wants to stop.
#[derive(Debug)]
pub struct Interrupt {
    /// What the first Ctrl-C says, while something can be ended gently.
    gentle: Arc<Mutex<Option<&'static str>>>,
    wanted: Arc<AtomicBool>,
}

/// While this lives, the first Ctrl-C ends nothing: it sets [`Interrupt::is_wanted`].
#[derive(Debug)]
pub struct Gentle<'a>(&'a Interrupt);

impl Interrupt {
    /// Listens to Ctrl-C and SIGTERM from now on; once in a process.
    pub fn listen(screen: Screen) -> Result<Self> {
        let interrupt = Self {
            gentle: Arc::default(),
            wanted: Arc::default(),
        };
        let (gentle, wanted) = (Arc::clone(&interrupt.gentle), Arc::clone(&interrupt.wanted));
        let stop = move || {
            let message = *gentle.lock().unwrap_or_else(PoisonError::into_inner);
            match message {
                Some(message) if !wanted.swap(true, Ordering::SeqCst) => screen.remark(message),
                _ => std::process::exit(EXIT_CODE.into()),
            }
        };
        #[cfg(unix)]
        on_termination(stop.clone())?;
        ctrlc::set_handler(stop).context("cannot listen for Ctrl-C")?;
        Ok(interrupt)
    }

    /// From now on the first Ctrl-C says `message`, which tells what happens and what a second one does.
    pub fn gentle(&self, message: &'static str) -> Gentle<'_> {
        self.set(Some(message));
        Gentle(self)
    }

    /// Whether to stop.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    fn set(&self, message: Option<&'static str>) {
        *self.gentle.lock().unwrap_or_else(PoisonError::into_inner) = message;
    }
}

/// SIGTERM, as supervisors send it, is a Ctrl-C. The feature of ctrlc for it would take SIGHUP as well, which whoever runs a
/// command with nohup wants to be ignored.
#[cfg(unix)]
fn on_termination(stop: impl Fn() + Send + 'static) -> Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM])
        .context("cannot listen for SIGTERM")?;
    std::thread::spawn(move || signals.forever().for_each(|_| stop()));
    Ok(())
}

impl Drop for Gentle<'_> {
    fn drop(&mut self) {
        self.0.set(None);
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
