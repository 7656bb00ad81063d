//! The one tokenizer that the rest of the library sees.

use std::path::Path;

use super::bpe::{self, BytePairEncoding};
use super::clean::clean;
use super::hugging_face::HuggingFace;
use super::{Result, TextError, TokenizerWarning};

/// What to do with a text that does not fit into the model's context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlong {
    /// An error that names the text and its length.
    Refuse,
    /// Its first tokens, and the end of text in the last place, as the official `truncate=True`.
    Truncate,
}

/// Turns text into the token ids of a CLIP text tower. It is `Send` and `Sync`; one serves all threads.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
}

#[derive(Debug)]
enum Vocabulary {
    Clip(Box<BytePairEncoding>),
    HuggingFace(Box<HuggingFace>),
}

impl Tokenizer {
    /// Builds the official CLIP tokenizer with a vocabulary of `vocabulary_size` ids: 512 byte symbols, the first
    /// `vocabulary_size` − 514 merges of CLIP's list, then start and end of text. The official size is 49,408.
    ///
    /// Texts are cleaned as officially: repaired as by ftfy, HTML references resolved, white space collapsed, lower case.
    ///
    /// # Errors
    /// `vocabulary_size` is outside 514..=49,408.
    pub fn clip(vocabulary_size: usize) -> Result<Tokenizer> {
        Ok(Tokenizer {
            vocabulary: Vocabulary::Clip(Box::new(BytePairEncoding::new(vocabulary_size)?)),
        })
    }

    /// Reads the tokenizer that a Hugging Face `tokenizer.json` describes, its own normalizer included. Truncation and
    /// padding set in the file are ignored. What is unusual is told by [`warnings`](Self::warnings).
    ///
    /// # Errors
    /// The file cannot be read, is no `tokenizer.json`, or has no start and end of text.
    pub fn from_hugging_face(path: &Path) -> Result<Tokenizer> {
        Ok(Tokenizer {
            vocabulary: Vocabulary::HuggingFace(Box::new(HuggingFace::open(path)?)),
        })
    }

    /// Returns the token ids of a text of any length, without start and end of text. The words `<|startoftext|>` and
    /// `<|endoftext|>` in the text become those ids, as officially.
    ///
    /// # Errors
    /// A `tokenizer.json` fails on this text. CLIP's own vocabulary spells every text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match &self.vocabulary {
            Vocabulary::Clip(bpe) => Ok(bpe.encode(&clean(text))),
            Vocabulary::HuggingFace(tokenizer) => tokenizer.encode(text),
        }
    }

    /// Returns start of text, the ids of `text` and end of text: at most `context_length` ids, without padding.
    ///
    /// # Errors
    /// The text is longer and `overlong` refuses it, or a `tokenizer.json` fails on it.
    pub fn tokenize(
        &self,
        text: &str,
        context_length: usize,
        overlong: Overlong,
    ) -> Result<Vec<u32>> {
        let mut ids = vec![self.start_of_text()];
        ids.extend(self.encode(text)?);
        ids.push(self.end_of_text());
        if ids.len() > context_length {
            match overlong {
                Overlong::Refuse => {
                    return Err(TextError::TooLong {
                        text: text.to_owned(),
                        tokens: ids.len(),
                        context_length,
                    });
                }
                Overlong::Truncate => {
                    ids.truncate(context_length);
                    if let Some(last) = ids.last_mut() {
                        *last = self.end_of_text();
                    }
                }
            }
        }
        Ok(ids)
    }

    /// Returns the vocabulary's word for an id, for people: `cat</w>` is the end of a word, `cat` its beginning or
    /// middle. Bytes that are no text by themselves are written `<0xF0>`. `None` if there is no such id.
    pub fn decode_token(&self, id: u32) -> Option<String> {
        match &self.vocabulary {
            Vocabulary::Clip(bpe) => {
                let word = bpe.word(id)?;
                Some(bpe::readable(word).unwrap_or_else(|| word.to_owned()))
            }
            Vocabulary::HuggingFace(tokenizer) => tokenizer.word(id),
        }
    }

    /// Returns the id in front of every text.
    pub fn start_of_text(&self) -> u32 {
        match &self.vocabulary {
            Vocabulary::Clip(bpe) => bpe.start_of_text(),
            Vocabulary::HuggingFace(tokenizer) => tokenizer.start_of_text,
        }
    }

    /// Returns the id after every text; the text tower reads its output there.
    pub fn end_of_text(&self) -> u32 {
        match &self.vocabulary {
            Vocabulary::Clip(bpe) => bpe.end_of_text(),
            Vocabulary::HuggingFace(tokenizer) => tokenizer.end_of_text,
        }
    }

    /// Returns how many rows a token embedding needs: one more than the largest id.
    pub fn vocabulary_size(&self) -> usize {
        match &self.vocabulary {
            Vocabulary::Clip(bpe) => bpe.vocabulary_size(),
            Vocabulary::HuggingFace(tokenizer) => tokenizer.vocabulary_size,
        }
    }

    /// Returns what is unusual about this tokenizer; nothing for CLIP's own.
    pub fn warnings(&self) -> &[TokenizerWarning] {
        match &self.vocabulary {
            Vocabulary::Clip(_) => &[],
            Vocabulary::HuggingFace(tokenizer) => &tokenizer.warnings,
        }
    }
}
