//! `contextune train finetune`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use contextune::method::Initialisation;
use contextune::method::image::finetune::{FinetuneSettings, Tuned};
use contextune::run::AnyMethod;

use super::{MethodArguments, Setup};
use crate::commands::train::common::CommonArguments;
use crate::commands::train::training::TrainingArguments;
use crate::options::WrongUsage;

/// A linear classifier behind the image tower, and parts of the tower trained with it: what visual prompts are compared
/// with.
///
/// Example: contextune train finetune --data photos --tune partial-1
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    common: CommonArguments,
    /// What learns beside the classifier: linear (nothing), mlp-N (a classifier of N layers), partial-N (the last N blocks),
    /// bias, adapter, adapter-as-published (which learns one bias for each block), side (an AlexNet beside the tower) or full.
    #[arg(long, default_value_t)]
    tune: Tuned,
    /// Begin the AlexNet of --tune side from its weights as torchvision publishes them; without it at random.
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
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

    fn method(&self, _setup: &Setup<'_>) -> Result<(AnyMethod, Initialisation)> {
        let tuned = self.tune;
        let initial = match &self.init {
            None => Initialisation::Random,
            Some(path) if tuned == Tuned::Side => Initialisation::File {
                path: std::path::absolute(path)?,
            },
            Some(_) => {
                let only = "--init goes with --tune side: all else begins from the model";
                return Err(WrongUsage(only.into()).into());
            }
        };
        let settings = FinetuneSettings { tuned };
        Ok((settings.into(), initial))
    }
}
