//! `contextune train text-transform`.

use anyhow::Result;
use clap::Args;
use contextune::method::Initialisation;
use contextune::method::feature::text_tuning::TextTransformSettings;
use contextune::run::AnyMethod;

use super::{MethodArguments, Setup};
use crate::commands::train::common::CommonArguments;
use crate::commands::train::templates::TemplateArguments;
use crate::commands::train::training::TrainingArguments;

/// A linear layer on the text features (baseline of CoOp's paper).
///
/// Example: contextune train text-transform --data photos --shots 16
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    templates: TemplateArguments,
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
        let settings = TextTransformSettings {
            templates: self.templates.lines(setup.dataset)?,
        };
        Ok((settings.into(), Initialisation::Random))
    }
}
