//! `contextune train text-bias`.

use anyhow::Result;
use clap::Args;
use contextune::prompt::Method;
use contextune::prompt::coop::InitialContext;
use contextune::prompt::text_tuning::TextBiasSettings;

use super::{MethodArguments, Setup};
use crate::commands::train::common::CommonArguments;
use crate::commands::train::templates::TemplateArguments;
use crate::commands::train::training::TrainingArguments;

/// A bias on the text features (baseline of CoOp's paper).
///
/// Example: contextune train text-bias --data photos --shots 16
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

    fn method(&self, setup: &Setup<'_>) -> Result<(Method, InitialContext)> {
        let settings = TextBiasSettings {
            templates: self.templates.lines(setup.dataset)?,
        };
        Ok((Method::TextBias(settings), InitialContext::Random))
    }
}
