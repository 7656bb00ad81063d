//! `contextune train reprogram`.

use anyhow::Result;
use clap::Args;
use contextune::method::Initialisation;
use contextune::method::image::reprogram::ReprogramSettings;
use contextune::run::AnyMethod;

use super::{MethodArguments, Setup};
use crate::commands::train::common::CommonArguments;
use crate::commands::train::target::TargetArguments;
use crate::commands::train::training::TrainingArguments;
use crate::commands::train::values::not_negative;

/// A program of pixels around a small picture that makes a frozen classifier do another task (adversarial
/// reprogramming); learns from pictures.
///
/// Example: contextune train reprogram --data digits --model efficientnet-lite0.pth --side 28
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    target: TargetArguments,
    /// Side of the task's picture in pixels; without it half of the model's input.
    #[arg(long)]
    side: Option<usize>,
    /// Factor of the squared norm of the program, λ; as published 0.05, here 0 unless given.
    #[arg(long, value_name = "FACTOR", default_value_t = 0.0, value_parser = not_negative)]
    penalty: f64,
    #[command(flatten)]
    training: TrainingArguments,
}

impl MethodArguments for Arguments {
    fn common(&self) -> &CommonArguments {
        &self.common
    }

    fn training(&self) -> Option<&TrainingArguments> {
        Some(&self.training)
    }

    fn method(&self, setup: &Setup<'_>) -> Result<(AnyMethod, Initialisation)> {
        let image_size = setup.model.config().image.image_size();
        let settings = ReprogramSettings {
            side: self.side.unwrap_or((image_size / 2).max(1)),
            penalty: self.penalty as f32,
            target: self.target.resolve(setup)?,
        };
        Ok((settings.into(), Initialisation::Random))
    }
}
