//! Where learning begins.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where what is learned begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Initialisation {
    /// Drawn at random from the run's seed.
    #[default]
    Random,
    /// Context vectors begin as the embeddings of the first tokens of these words, one vector each.
    Words {
        /// The words.
        words: String,
    },
    /// The tensors of a safetensors file, such as the prompt of an earlier run; a side network from its published weights.
    File {
        /// The file.
        path: PathBuf,
    },
}
