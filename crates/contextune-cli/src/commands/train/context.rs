//! Context vectors: how many, where they stand, and what they begin from.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use contextune::method::Initialisation;
use contextune::method::text::coop::{CONTEXT, ContextLayout, Position};
use contextune::model::Model;
use contextune::parameters::read_tensor;

use crate::options::WrongUsage;

/// Context vectors of CoOp if nothing else is said (Zhou et al. 2022).
const CONTEXT_VECTORS: usize = 16;
/// Words that CoCoOp and KgCoOp begin from if nothing else is said.
pub const PUBLISHED_WORDS: &str = "a photo of a";

#[derive(Debug, Args)]
pub struct LayoutArguments {
    /// Where the class name stands among the context vectors: end, middle or front.
    #[arg(long, default_value_t)]
    pub position: Position,
    /// A context for each class instead of one for all.
    #[arg(long, conflicts_with = "init_words")]
    pub class_specific: bool,
}

#[derive(Debug, Args)]
pub struct ContextArguments {
    /// Context vectors, M; without it as published (16 for coop and prograd, 4 for cocoop and kgcoop) or as words or a file
    /// say.
    #[arg(long, value_name = "M")]
    context_length: Option<usize>,
    /// Begin from the embeddings of these words, one vector for each of their tokens.
    #[arg(long, value_name = "WORDS", conflicts_with = "init")]
    init_words: Option<String>,
    /// One vector for each word, as the official code counts; surplus tokens of a word stay behind the context.
    #[arg(long, requires = "init_words")]
    init_as_published: bool,
    /// Begin from the tensors of this safetensors file, such as the prompt of an earlier run.
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
}

impl ContextArguments {
    /// Returns the context's layout and its initialisation; `words` initialise it if the arguments name nothing else.
    pub fn resolve(
        &self,
        layout: &LayoutArguments,
        words: Option<&str>,
        model: &Model,
    ) -> Result<(ContextLayout, Initialisation)> {
        let words = match (&self.init_words, &self.init, self.context_length) {
            (Some(words), _, _) => Some(words.replace('_', " ")),
            (None, None, None) => words.map(str::to_owned),
            _ => None,
        };
        let initial = match (words, &self.init) {
            (Some(words), _) => Initialisation::Words { words },
            (None, Some(path)) => Initialisation::File {
                path: std::path::absolute(path)?,
            },
            (None, None) => Initialisation::Random,
        };
        let found = match &initial {
            Initialisation::Words { words } if self.init_as_published => {
                Some(words.split(' ').count())
            }
            Initialisation::Words { words } => Some(model.tokenizer()?.encode(words)?.len()),
            Initialisation::File { path } => {
                let (_, shape) = read_tensor(path, CONTEXT)?; // [M, d] or [K, M, d]
                Some(shape.iter().rev().nth(1).copied().unwrap_or(0))
            }
            Initialisation::Random => None,
        };
        let length = match (self.context_length, found) {
            (Some(asked), Some(found)) if asked != found => {
                return Err(WrongUsage(format!(
                    "--context-length is {asked}, but the initialisation has {found} vectors: leave one of them out"
                ))
                .into());
            }
            (Some(length), _) | (None, Some(length)) => length,
            (None, None) => CONTEXT_VECTORS,
        };
        if length == 0 {
            return Err(WrongUsage("a context has at least one vector".into()).into());
        }
        let published_words = match (&initial, self.init_as_published, layout.position) {
            (Initialisation::Words { words }, true, Position::End) => Some(words.clone()),
            (_, true, position) => {
                return Err(WrongUsage(format!(
                    "--init-as-published with --position {position}: the official code then takes surplus tokens for the class name; leave one of them out"
                ))
                .into());
            }
            (_, false, _) => None,
        };
        let layout = ContextLayout {
            length,
            class_specific: layout.class_specific,
            position: layout.position,
            published_words,
        };
        Ok((layout, initial))
    }
}
