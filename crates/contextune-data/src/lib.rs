//! What Contextune knows without a tensor library: files of pictures, texts, data sets and weights, and what is counted.
//!
//! The modules in the order in which data walk through them: a picture file becomes RGB bytes ([`image`]), a string becomes
//! token ids ([`text`]), a place on disk becomes examples in splits ([`data`]); [`pickle`] parses Python's pickles without
//! running them, [`checkpoint`] reads an [`architecture`] and its weights from every supported format, and [`evaluate`]
//! counts what a model got right.

pub mod architecture;
pub mod checkpoint;
pub mod data;
pub mod evaluate;
pub mod files;
pub mod image;
pub mod pickle;
pub mod text;
