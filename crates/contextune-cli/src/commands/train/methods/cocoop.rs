//! `contextune train cocoop`.

use anyhow::Result;
use clap::Args;
use contextune::method::Initialisation;
use contextune::method::text::cocoop::CoCoOpSettings;
use contextune::method::text::coop::Position;
use contextune::run::AnyMethod;

use super::{MethodArguments, Setup};
use crate::commands::train::common::CommonArguments;
use crate::commands::train::context::{ContextArguments, LayoutArguments, PUBLISHED_WORDS};
use crate::commands::train::training::TrainingArguments;

/// Context vectors that depend on the picture (CoCoOp): better on classes that were not learned.
///
/// Example: contextune train cocoop --data photos --shots 16 --subset base
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    common: CommonArguments,
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
        let at_end = LayoutArguments {
            position: Position::End,
            class_specific: false,
        };
        let words = Some(PUBLISHED_WORDS);
        let (layout, initial) = self.context.resolve(&at_end, words, setup.model)?;
        let settings = CoCoOpSettings {
            context_length: layout.length,
            published_words: layout.published_words,
        };
        Ok((settings.into(), initial))
    }
}
