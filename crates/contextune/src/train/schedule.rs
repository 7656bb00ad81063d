//! The learning rate over a run.

use serde::{Deserialize, Serialize};

/// Learning rate as a function of progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Schedule {
    /// CoOp's: the first epoch at a constant warm-up rate, then half a cosine over the epochs, set once an epoch.
    ///
    /// As published the cosine is not shortened by the warm-up, so the rate does not quite reach zero.
    CoOp {
        /// Rate of the first epoch, 1e-5 as published.
        warmup: f32,
    },
    /// Half a cosine to zero from the first step on, set at every step.
    Cosine,
    /// VPT's: linear from zero over the first epochs, then half a cosine to zero, set once an epoch; the first epoch has the
    /// rate 0 (KMnP/vpt, `solver/lr_scheduler.py`).
    EpochWarmupCosine {
        /// Epochs until the full rate is reached.
        warmup_epochs: usize,
    },
    /// CLIP's: linear from zero over the warm-up steps, then half a cosine to zero, set at every step.
    WarmupCosine {
        /// Steps until the full rate is reached.
        warmup_steps: usize,
    },
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Epoch, from zero.
    pub epoch: usize,
    /// Epochs of the whole run.
    pub epochs: usize,
    /// Steps since the beginning of the run, from zero.
    pub step: usize,
    /// Steps of the whole run.
    pub steps: usize,
}

impl Schedule {
    /// Whether a run of so many epochs and steps ends before the full rate is reached.
    pub fn only_warms_up(&self, epochs: usize, steps: usize) -> bool {
        match *self {
            Self::CoOp { .. } | Self::Cosine => false,
            Self::EpochWarmupCosine { warmup_epochs } => epochs <= warmup_epochs,
            Self::WarmupCosine { warmup_steps } => steps <= warmup_steps,
        }
    }

    /// The rate at `progress` for a run whose full rate is `base`.
    pub fn learning_rate(&self, base: f32, progress: Progress) -> f32 {
        let half_cosine = |done: f64, all: f64| {
            (0.5 * f64::from(base) * (1.0 + (std::f64::consts::PI * done / all).cos())) as f32
        };
        match *self {
            Self::CoOp { warmup } => match progress.epoch {
                0 => warmup,
                epoch => half_cosine((epoch - 1) as f64, progress.epochs as f64),
            },
            Self::EpochWarmupCosine { warmup_epochs } => {
                if progress.epoch < warmup_epochs {
                    base * progress.epoch as f32 / warmup_epochs as f32
                } else {
                    let rest = progress.epochs.saturating_sub(warmup_epochs).max(1);
                    half_cosine((progress.epoch - warmup_epochs) as f64, rest as f64)
                }
            }
            Self::Cosine => half_cosine(progress.step as f64, progress.steps as f64),
            Self::WarmupCosine { warmup_steps } => {
                if progress.step < warmup_steps {
                    base * (progress.step + 1) as f32 / warmup_steps as f32
                } else {
                    let rest = progress.steps.saturating_sub(warmup_steps).max(1);
                    half_cosine((progress.step - warmup_steps) as f64, rest as f64)
                }
            }
        }
    }
}
