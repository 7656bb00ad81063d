//! The part of Contextune that needs no tensor library: files of pictures, texts, data sets and weights, and metrics.
//!
//! The modules, in the order in which data passes through them:
//!
//! 1. [`image`] decodes a picture file to RGB bytes; [`text`] turns a string into token ids.
//! 2. [`data`] opens a place on disk as examples in splits.
//! 3. [`checkpoint`] reads an [`architecture`] and its weights from every supported format; [`pickle`] parses Python's
//!    pickles for it and never runs them.
//! 4. [`evaluate`] counts what a model predicted correctly.
//!
//! [`files`] holds what the formats share: numbers as bytes, memory mapping, atomic writes.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use contextune_data::checkpoint::{self, OpenOptions};
//! use contextune_data::data::{self, Split};
//! use contextune_data::text::{Overlong, TEMPLATE, TemplateSet, Tokenizer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dataset = data::open(Path::new("photos"), 1)?.few_shot(16, 1)?;
//! println!("{} training pictures", dataset.split(Split::Train).len());
//!
//! let templates = TemplateSet::new(TEMPLATE, "the default")?;
//! let tokenizer = Tokenizer::clip(49_408)?;
//! for prompt in templates.fill(&dataset.class_names[0]) {
//!     println!("{:?}", tokenizer.tokenize(&prompt, 77, Overlong::Refuse)?);
//! }
//!
//! let model = checkpoint::open(Path::new("ViT-B-32.pt"), OpenOptions::default())?;
//! println!("{:?}", model.config);
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs)]

pub mod architecture;
pub mod checkpoint;
pub mod data;
pub mod evaluate;
pub mod files;
pub mod image;
pub mod pickle;
pub mod text;
