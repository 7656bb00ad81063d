//! `contextune train zeroshot`.

use anyhow::Result;
use clap::Args;
use contextune::method::Initialisation;
use contextune::method::text::zeroshot::ZeroShotSettings;
use contextune::run::AnyMethod;

use super::{MethodArguments, Setup};
use crate::commands::train::common::CommonArguments;
use crate::commands::train::templates::TemplateArguments;
use crate::commands::train::training::TrainingArguments;

/// Words as the prompt; nothing is learned.
///
/// Example: contextune train zeroshot --data photos --templates openai-7
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    templates: TemplateArguments,
}

impl MethodArguments for Arguments {
    fn common(&self) -> &CommonArguments {
        &self.common
    }

    fn training(&self) -> Option<&TrainingArguments> {
        None
    }

    fn method(&self, setup: &Setup<'_>) -> Result<(AnyMethod, Initialisation)> {
        let settings = ZeroShotSettings {
            templates: self.templates.lines(setup.dataset)?,
        };
        Ok((settings.into(), Initialisation::Random))
    }
}
