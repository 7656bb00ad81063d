//! `contextune train kgcoop`.

use anyhow::Result;
use clap::Args;
use contextune::prompt::Method;
use contextune::prompt::coop::InitialContext;
use contextune::prompt::kgcoop::KgCoOp;

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

    fn method(&self, setup: &Setup<'_>) -> Result<(Method, InitialContext)> {
        let words = match self.guided.layout.class_specific {
            true => None,
            false => Some(PUBLISHED_WORDS),
        };
        let weight = self.guided.weight_or(KgCoOp::PUBLISHED.weight);
        let (settings, initial) = self.guided.resolve(KgCoOp { weight }, words, setup)?;
        Ok((Method::Kgcoop(settings), initial))
    }
}
