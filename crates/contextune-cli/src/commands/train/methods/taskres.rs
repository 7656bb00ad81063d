//! `contextune train taskres`.

use anyhow::Result;
use clap::Args;
use contextune::method::Initialisation;
use contextune::method::feature::taskres::TaskResSettings;
use contextune::run::AnyMethod;

use super::{MethodArguments, Setup};
use crate::commands::train::common::CommonArguments;
use crate::commands::train::templates::TemplateArguments;
use crate::commands::train::training::TrainingArguments;
use crate::commands::train::values::positive;

/// A residual on the text feature of each class (TaskRes).
///
/// Example: contextune train taskres --data photos --shots 16
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    templates: TemplateArguments,
    /// Factor of the residuals, α.
    #[arg(long, value_name = "FACTOR", default_value_t = 0.5, value_parser = positive)]
    residual_scale: f64,
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
        let settings = TaskResSettings {
            templates: self.templates.lines(setup.dataset)?,
            residual_scale: self.residual_scale as f32,
        };
        Ok((settings.into(), Initialisation::Random))
    }
}
