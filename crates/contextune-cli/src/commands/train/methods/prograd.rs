//! `contextune train prograd`.

use anyhow::Result;
use clap::Args;
use contextune::method::Initialisation;
use contextune::method::text::prograd::ProGrad;
use contextune::run::AnyMethod;

use super::{MethodArguments, Setup};
use crate::commands::train::common::CommonArguments;
use crate::commands::train::guided::GuidedArguments;
use crate::commands::train::training::TrainingArguments;

/// CoOp whose steps never go against hand-written words (ProGrad).
///
/// Example: contextune train prograd --data photos --shots 4
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    guided: GuidedArguments,
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
        let weight = self.guided.weight_or(ProGrad::PUBLISHED.weight);
        let (settings, initial) = self.guided.resolve(ProGrad { weight }, None, setup)?;
        Ok((settings.into(), initial))
    }
}
