//! String to token ids, and the templates that class names are put into.
//!
//! A text passes through the files in this order: [`Tokenizer::tokenize`] → `clean` (`repair` of mis-decoded text,
//! `html` character references, white space, case) → `bpe` (split into words, words into ids of CLIP's vocabulary).
//! With a model that brings its own `tokenizer.json`, `hugging_face` takes the place of both.

mod bpe;
mod clean;
mod error;
mod html;
mod hugging_face;
mod repair;
mod templates;
mod tokenizer;

pub use error::{Result, TextError, TokenizerWarning};
pub use templates::{TEMPLATE, Template, TemplateSet, class_words};
pub use tokenizer::{Overlong, Tokenizer};
