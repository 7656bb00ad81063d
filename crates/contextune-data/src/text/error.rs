//! What can be wrong with a text, a tokenizer or a template, and what is merely worth saying.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Result of this module.
pub type Result<T> = std::result::Result<T, TextError>;

/// Why a text could not be tokenized, or a tokenizer or a set of templates not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file far larger than any of its kind.
    #[error("{} is larger than {limit} bytes: it is not {expected}", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// What was expected.
        expected: &'static str,
        /// How large it may be.
        limit: u64,
    },
    /// CLIP's list of merges makes vocabularies of 514 to 49,408 ids only.
    #[error(
        "a vocabulary of {size} ids is not CLIP's, which has 514 to 49,408: put the model's tokenizer.json beside its weights"
    )]
    VocabularySize {
        /// Ids asked for.
        size: usize,
    },
    /// A text that does not fit into the model's context.
    #[error(
        "{} is {tokens} tokens long with the start and the end of text, and the model reads {context_length}: shorten it, or allow cutting it off",
        shortened(text)
    )]
    TooLong {
        /// The text.
        text: String,
        /// Its length in tokens, start and end of text included.
        tokens: usize,
        /// How many tokens the model reads.
        context_length: usize,
    },
    /// A class name for which the context vectors leave no room.
    #[error(
        "{} and {context_length} context vectors make a prompt of {tokens} tokens with the start and the end of text, and the model reads {limit}: shorten the name, or learn fewer vectors",
        shortened(name)
    )]
    NoRoomForName {
        /// The class name.
        name: String,
        /// Context vectors before or around it.
        context_length: usize,
        /// Length of the prompt in tokens.
        tokens: usize,
        /// How many tokens the model reads.
        limit: usize,
    },
    /// A `tokenizer.json` that cannot be used.
    #[error("{} is not a usable tokenizer: {problem}; {advice}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do.
        advice: &'static str,
    },
    /// A `tokenizer.json` that failed on a text.
    #[error("{} cannot tokenize {}: {problem}", path.display(), shortened(text))]
    Untokenizable {
        /// The tokenizer.
        path: PathBuf,
        /// The text.
        text: String,
        /// What is wrong.
        problem: String,
    },
    /// A template without a place for the class name, or with several.
    #[error(
        "{origin}: the template {} has {{}} {count} times: write it once, where the class name goes",
        shortened(template)
    )]
    Placeholder {
        /// Where the template stands: a file and line, or the setting `templates`.
        origin: String,
        /// The template.
        template: String,
        /// How often it has `{}`.
        count: usize,
    },
    /// A tokenizer for which the words that context vectors replace are not one token each.
    #[error(
        "the tokenizer does not give each X of {} a token of its own: {context_length} context vectors cannot take their places",
        shortened(text)
    )]
    Context {
        /// The prompt.
        text: String,
        /// Context vectors.
        context_length: usize,
    },
    /// A set without templates.
    #[error("{origin} has no templates: write one a line, with {{}} where the class name goes")]
    NoTemplates {
        /// The file or list.
        origin: String,
    },
    /// Neither a template, nor a file, nor the name of a set.
    #[error(
        "{} is neither a template (it has no {{}}), nor a file, nor one of the sets {}",
        shortened(argument),
        known.join(", ")
    )]
    UnknownTemplates {
        /// What was asked for.
        argument: String,
        /// The sets there are.
        known: Vec<&'static str>,
    },
}

/// Something about a tokenizer that is allowed, but seldom meant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenizerWarning {
    /// Upper and lower case give different ids, which CLIP's tokenizers never do.
    CaseMatters {
        /// The `tokenizer.json`.
        path: PathBuf,
    },
    /// The file adds no start and end of text by itself; they were found by name.
    NoPostProcessor {
        /// The `tokenizer.json`.
        path: PathBuf,
    },
}

impl fmt::Display for TokenizerWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenizerWarning::CaseMatters { path } => write!(
                f,
                "{}: no normalizer turns text into lower case, as CLIP's does: write texts as the model was trained on them",
                path.display()
            ),
            TokenizerWarning::NoPostProcessor { path } => write!(
                f,
                "{}: no post_processor adds the start and the end of text: they were found by name",
                path.display()
            ),
        }
    }
}

/// Quotes the text, at most 60 characters of it.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Reads a file that should be `expected` and may have `limit` bytes.
pub(super) fn read_bounded(path: &Path, expected: &'static str, limit: u64) -> Result<Vec<u8>> {
    let io_error = |source| TextError::Io {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(io_error)?;
    if bytes.len() as u64 > limit {
        return Err(TextError::FileTooLarge {
            path: path.to_owned(),
            expected,
            limit,
        });
    }
    Ok(bytes)
}
