//! How a method is trained: what its authors published, and what reaches about the same in a fraction of the time.

use serde::{Deserialize, Serialize};

use crate::task::TrainingViews;
use crate::train::{FitSettings, Optimizer, Schedule};

/// How something is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Pictures in a step, at most; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<usize>,
    /// The smallest share of a picture's area in a random view, in percent.
    pub least_area: u8,
    /// Views of the training pictures.
    pub views: TrainingViews,
    /// Epochs, optimiser, rates.
    pub fit: FitSettings,
}

impl Recipe {
    /// CoOp's SGD at 0.002 with its schedule, on fresh views (Zhou et al. 2022, §4.1; KaiyangZhou/CoOp, configs).
    pub fn coop(epochs: usize, batch_size: usize) -> Self {
        Self {
            batch_size: Some(batch_size),
            least_area: 8,
            views: TrainingViews::Fresh,
            fit: FitSettings {
                epochs,
                learning_rate: 0.002,
                optimizer: Optimizer::Sgd {
                    momentum: 0.9,
                    weight_decay: 5e-4,
                },
                schedule: Schedule::CoOp { warmup: 1e-5 },
            },
        }
    }

    /// AdamW on all pictures at once: with cached features the step of a text prompt costs the same for one picture and for
    /// all, so few steps with exact gradients replace many with noisy ones. Settings chosen on two tasks of the icon
    /// benchmark.
    pub fn full_batch(shots: Option<usize>) -> Self {
        /// Steps for each picture of a class, and their bounds.
        const STEPS_A_SHOT: usize = 15;
        const STEPS: (usize, usize) = (30, 200);
        let steps = shots.map_or(STEPS.1, |shots| shots.saturating_mul(STEPS_A_SHOT));
        let steps = steps.clamp(STEPS.0, STEPS.1);
        Self {
            batch_size: None,
            least_area: 8,
            views: TrainingViews::Whole,
            fit: FitSettings {
                epochs: steps,
                learning_rate: 0.01,
                optimizer: Optimizer::adam_w(0.0),
                schedule: Schedule::WarmupCosine {
                    warmup_steps: steps / 10,
                },
            },
        }
    }

    /// Nothing but the pictures themselves, and no steps.
    pub fn without_steps() -> Self {
        Self {
            views: TrainingViews::Whole,
            ..Self::coop(0, 32)
        }
    }
}

/// Rates to choose from; every learning rate goes with every weight decay.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// Highest learning rates.
    pub learning_rates: Vec<f32>,
    /// Weight decays; empty: the recipe's.
    pub weight_decays: Vec<f32>,
}

impl Grid {
    /// The grid of VPT and its baselines (KMnP/vpt, tune_vtab.py) for these rates, which are given for 256 pictures in a step
    /// and used in proportion to the recipe's.
    pub fn visual(rates: &[f32], recipe: &Recipe) -> Self {
        let share = recipe
            .batch_size
            .map_or(1.0, |pictures| pictures as f32 / 256.0);
        Self {
            learning_rates: rates.iter().map(|rate| rate * share).collect(),
            weight_decays: vec![0.01, 0.001, 0.0001, 0.0],
        }
    }
}

/// Where training settings come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecipeName {
    /// What the method's authors did.
    Published,
    /// What reaches about the same in a fraction of the time.
    #[default]
    Fast,
}
