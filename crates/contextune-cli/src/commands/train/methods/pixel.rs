//! `contextune train pixel`.

use anyhow::Result;
use clap::Args;
use contextune::method::Initialisation;
use contextune::method::image::pixel::{PixelSettings, Place};
use contextune::run::AnyMethod;

use super::{MethodArguments, Setup};
use crate::commands::train::common::CommonArguments;
use crate::commands::train::target::TargetArguments;
use crate::commands::train::training::TrainingArguments;
use crate::commands::train::values::named;

/// Pixels on the picture in front of a frozen CLIP, which compares it with words; learns from pictures.
///
/// Example: contextune train pixel --data photos --size 30
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    target: TargetArguments,
    /// Divide the gradient of all pixels by its norm before the optimiser sees it.
    #[arg(long)]
    unit_gradient: bool,
    /// Where the pixels are: padding (a border on the picture), frame (a border around the picture, made smaller),
    /// fixed-patch (a square in the upper left corner) or random-patch (at another place for every batch).
    #[arg(long, default_value = "padding", value_parser = named::<Place>)]
    place: Place,
    /// Width of the border or side of the patch, in pixels; without it as published for pictures of 224 pixels, 30, in
    /// proportion.
    #[arg(long)]
    size: Option<usize>,
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
        let settings = PixelSettings {
            place: self.place,
            size: self.size.unwrap_or((image_size * 30 / 224).max(1)),
            unit_gradient: self.unit_gradient,
            target: self.target.resolve(setup)?,
        };
        Ok((settings.into(), Initialisation::Random))
    }
}
