//! How a method is trained: its recipe, and what is changed of it.

use clap::{Args, ValueEnum};
use contextune::method::RecipeName;
use contextune::run::Settings;
use contextune::task::TrainingViews;
use contextune::train::Optimizer;

use super::values::{BatchSize, batch_size, not_negative, positive, share};

/// Weight decay of SGD where the recipe has another optimiser (Zhou et al. 2022).
const PUBLISHED_WEIGHT_DECAY: f32 = 5e-4;

#[derive(Debug, Args)]
pub struct TrainingArguments {
    /// fast, or published: what the method's authors did, with a fresh random view of each picture in every epoch.
    #[arg(long, value_enum, default_value_t)]
    recipe: RecipeArgument,
    /// Passes over the training pictures.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    epochs: Option<u32>,
    /// Batch size, or `full`.
    #[arg(long, value_parser = batch_size)]
    batch_size: Option<BatchSize>,
    /// Highest learning rate.
    #[arg(long, value_parser = positive)]
    lr: Option<f64>,
    /// Train by SGD with this momentum, whatever the recipe trains by.
    #[arg(long, value_parser = share)]
    momentum: Option<f32>,
    /// Weight decay.
    #[arg(long, value_parser = not_negative)]
    weight_decay: Option<f64>,
    /// Draw each epoch's views from V fixed random views of each picture; 0: use the pictures as they are.
    #[arg(long, value_name = "V")]
    views: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum RecipeArgument {
    /// What the method's authors did.
    Published,
    /// About the same accuracy in a fraction of the time.
    #[default]
    Fast,
}

impl From<RecipeArgument> for RecipeName {
    fn from(argument: RecipeArgument) -> Self {
        match argument {
            RecipeArgument::Published => Self::Published,
            RecipeArgument::Fast => Self::Fast,
        }
    }
}

impl TrainingArguments {
    /// Returns the recipe to begin with.
    pub fn recipe(&self) -> RecipeName {
        self.recipe.into()
    }

    /// Replaces values of the recipe by explicit arguments and records which were replaced.
    pub fn change(&self, settings: &mut Settings) {
        let training = &mut settings.training;
        let mut changed = |name: &str| settings.changed.push(name.to_owned());
        if let Some(epochs) = self.epochs {
            training.fit.epochs = epochs as usize;
            changed("epochs");
        }
        if let Some(BatchSize(size)) = self.batch_size {
            training.batch_size = size;
            changed("batch size");
        }
        if let Some(lr) = self.lr {
            training.fit.learning_rate = lr as f32;
            changed("learning rate");
        }
        if let Some(momentum) = self.momentum {
            let weight_decay = match training.fit.optimizer {
                Optimizer::Sgd { weight_decay, .. } => weight_decay,
                Optimizer::Adam { .. } | Optimizer::AdamW { .. } => PUBLISHED_WEIGHT_DECAY,
            };
            training.fit.optimizer = Optimizer::Sgd {
                momentum,
                weight_decay,
            };
            changed("momentum");
        }
        if let Some(asked) = self.weight_decay {
            match &mut training.fit.optimizer {
                Optimizer::Sgd { weight_decay, .. }
                | Optimizer::Adam { weight_decay, .. }
                | Optimizer::AdamW { weight_decay, .. } => *weight_decay = asked as f32,
            }
            changed("weight decay");
        }
        match self.views {
            None => {}
            Some(0) => {
                training.views = TrainingViews::Whole;
                changed("views");
            }
            Some(count) => {
                training.views = TrainingViews::Drawn { count };
                changed("views");
            }
        }
    }
}
