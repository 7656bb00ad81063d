//! `contextune train coop`.

use anyhow::Result;
use clap::Args;
use contextune::method::Initialisation;
use contextune::run::AnyMethod;

use super::{MethodArguments, Setup};
use crate::commands::train::common::CommonArguments;
use crate::commands::train::context::{ContextArguments, LayoutArguments};
use crate::commands::train::training::TrainingArguments;

/// Context vectors in place of the words around a class name (CoOp).
///
/// Example: contextune train coop --data photos --shots 16 --out runs/photos
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    layout: LayoutArguments,
    #[command(flatten)]
    context: ContextArguments,
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
        let (settings, initial) = self.context.resolve(&self.layout, None, setup.model)?;
        Ok((settings.into(), initial))
    }
}
