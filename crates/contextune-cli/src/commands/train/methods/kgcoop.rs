//! `contextune train kgcoop`.

use anyhow::Result;
use clap::Args;
use contextune::method::Initialisation;
use contextune::method::text::kgcoop::KgCoOp;
use contextune::run::AnyMethod;

use super::{MethodArguments, Setup};
use crate::commands::train::common::CommonArguments;
use crate::commands::train::context::PUBLISHED_WORDS;
use crate::commands::train::guided::GuidedArguments;
use crate::commands::train::training::TrainingArguments;

/// CoOp that stays near hand-written words (KgCoOp).
///
/// Example: contextune train kgcoop --data photos --shots 16 --subset base
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
        let words = match self.guided.layout.class_specific {
            true => None,
            false => Some(PUBLISHED_WORDS),
        };
        let weight = self.guided.weight_or(KgCoOp::PUBLISHED.weight);
        let (settings, initial) = self.guided.resolve(KgCoOp { weight }, words, setup)?;
        Ok((settings.into(), initial))
    }
}
