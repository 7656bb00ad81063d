//! A model's own `tokenizer.json`, through the `tokenizers` crate, and what may be wrong with it.

use std::path::{Path, PathBuf};

use tokenizers::DecoderWrapper;

use super::error::read_bounded;
use super::{Result, TextError, TokenizerWarning, bpe};

/// Several times the largest vocabulary in use (256,000 words, 34 MB).
const LARGEST_FILE: u64 = 128 << 20;

/// Names of start and end of text, where the file has no post-processor that adds them: CLIP's and open_clip's.
const KNOWN_NAMES: [(&str, &str); 2] = [
    ("<|startoftext|>", "<|endoftext|>"),
    ("<start_of_text>", "<end_of_text>"),
];

#[derive(Debug)]
pub(super) struct HuggingFace {
    path: PathBuf,
    tokenizer: tokenizers::Tokenizer,
    /// Whether the words are spelled with stand-ins for bytes.
    byte_level: bool,
    end_name: String,
    pub(super) start_of_text: u32,
    pub(super) end_of_text: u32,
    pub(super) vocabulary_size: usize,
    pub(super) warnings: Vec<TokenizerWarning>,
}

impl HuggingFace {
    pub(super) fn open(path: &Path) -> Result<HuggingFace> {
        let unusable = |problem: String, advice| TextError::Tokenizer {
            path: path.to_owned(),
            problem,
            advice,
        };
        let bytes = read_bounded(path, "a tokenizer.json", LARGEST_FILE)?;
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| {
            unusable(
                error.to_string(),
                "copy it again from the model it belongs to",
            )
        })?;
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| unusable(error.to_string(), "remove its truncation"))?;

        let vocabulary = tokenizer.get_vocab(true);
        let vocabulary_size = vocabulary
            .values()
            .max()
            .map_or(0, |largest| *largest as usize + 1);
        let mut warnings = Vec::new();

        // What the file puts around an empty text is the start and the end of text.
        let around = tokenizer.encode("", true).map_err(|error| {
            unusable(
                error.to_string(),
                "copy it again from the model it belongs to",
            )
        })?;
        let (start_of_text, end_of_text) = match around.get_ids() {
            [start, end] => (*start, *end),
            [] => {
                warnings.push(TokenizerWarning::NoPostProcessor {
                    path: path.to_owned(),
                });
                KNOWN_NAMES
                    .iter()
                    .find_map(|(start, end)| Some((tokenizer.token_to_id(start)?, tokenizer.token_to_id(end)?)))
                    .ok_or_else(|| {
                        unusable(
                            "it adds no start and end of text, and has no word <|startoftext|> and <|endoftext|>".into(),
                            "use the tokenizer.json of a CLIP text tower",
                        )
                    })?
            }
            ids => {
                return Err(unusable(
                    format!(
                        "it puts the ids {ids:?} around a text, not one start and one end of text"
                    ),
                    "use the tokenizer.json of a CLIP text tower",
                ));
            }
        };
        if start_of_text == end_of_text {
            return Err(unusable(
                format!("start and end of text are the same id {end_of_text}"),
                "correct the ids in its post_processor",
            ));
        }
        let special = tokenizer.get_added_tokens_decoder();
        for (role, id) in [("start", start_of_text), ("end", end_of_text)] {
            if !special.get(&id).is_some_and(|token| token.special) {
                let word = tokenizer.id_to_token(id);
                return Err(unusable(
                    match word {
                        Some(word) => format!(
                            "the {role} of text has id {id}, which is the ordinary word {word:?}"
                        ),
                        None => format!(
                            "the {role} of text has id {id}, which is not in its vocabulary"
                        ),
                    },
                    "correct the ids in its post_processor and added_tokens",
                ));
            }
        }
        let byte_level = matches!(tokenizer.get_decoder(), Some(DecoderWrapper::ByteLevel(_)));
        let end_name = tokenizer.id_to_token(end_of_text).unwrap_or_default();
        let mut opened = HuggingFace {
            path: path.to_owned(),
            tokenizer,
            byte_level,
            end_name,
            start_of_text,
            end_of_text,
            vocabulary_size,
            warnings,
        };
        if opened.encode("A Cat")? != opened.encode("a cat")? {
            opened.warnings.push(TokenizerWarning::CaseMatters {
                path: path.to_owned(),
            });
        }
        Ok(opened)
    }

    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let untokenizable = |problem: String| TextError::Untokenizable {
            path: self.path.clone(),
            text: text.to_owned(),
            problem,
        };
        let encoding = self
            .tokenizer
            .encode_fast(text, false)
            .map_err(|error| untokenizable(error.to_string()))?;
        let ids = encoding.get_ids();
        // CLIP's files name the end of text as the word for unknown characters; the tower would stop reading there.
        if ids.contains(&self.end_of_text) && !text.contains(&self.end_name) {
            return Err(untokenizable(
                "its vocabulary lacks some of the characters".into(),
            ));
        }
        Ok(ids.to_vec())
    }

    pub(super) fn word(&self, id: u32) -> Option<String> {
        let word = self.tokenizer.id_to_token(id)?;
        Some(match self.byte_level {
            true => bpe::readable(&word).unwrap_or(word),
            false => word,
        })
    }
}
