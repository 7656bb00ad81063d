//! `contextune train clip-adapter`.

use anyhow::Result;
use clap::Args;
use contextune::method::Initialisation;
use contextune::method::feature::clip_adapter::ClipAdapterSettings;
use contextune::run::AnyMethod;

use super::{MethodArguments, Setup};
use crate::commands::train::common::CommonArguments;
use crate::commands::train::templates::TemplateArguments;
use crate::commands::train::training::TrainingArguments;
use crate::commands::train::values::share;

/// A small network on the image features (CLIP-Adapter).
///
/// Example: contextune train clip-adapter --data photos --shots 16
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    templates: TemplateArguments,
    /// Share of the adapted feature, 0 to 1.
    #[arg(long, default_value_t = 0.2, value_parser = share)]
    ratio: f32,
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
        let settings = ClipAdapterSettings {
            templates: self.templates.lines(setup.dataset)?,
            ratio: self.ratio,
        };
        Ok((settings.into(), Initialisation::Random))
    }
}
