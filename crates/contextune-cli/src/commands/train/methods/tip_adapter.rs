//! `contextune train tip-adapter`.

use anyhow::Result;
use clap::Args;
use contextune::prompt::Method;
use contextune::prompt::coop::InitialContext;
use contextune::prompt::tip_adapter::TipAdapterSettings;

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

    fn method(&self, setup: &Setup<'_>) -> Result<(Method, InitialContext)> {
        let settings = TipAdapterSettings {
            templates: self.templates.lines(setup.dataset)?,
        };
        Ok((Method::TipAdapter(settings), InitialContext::Random))
    }
}
