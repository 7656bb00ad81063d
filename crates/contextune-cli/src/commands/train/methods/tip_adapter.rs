//! `contextune train tip-adapter`.

use anyhow::Result;
use clap::Args;
use contextune::method::Initialisation;
use contextune::method::feature::tip_adapter::TipAdapterSettings;
use contextune::run::AnyMethod;

use super::{MethodArguments, Setup};
use crate::commands::train::common::CommonArguments;
use crate::commands::train::templates::TemplateArguments;
use crate::commands::train::training::TrainingArguments;

/// The training pictures themselves as a classifier; nothing is trained (Tip-Adapter).
///
/// Example: contextune train tip-adapter --data photos --shots 16
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
        let settings = TipAdapterSettings {
            templates: self.templates.lines(setup.dataset)?,
        };
        Ok((settings.into(), Initialisation::Random))
    }
}
