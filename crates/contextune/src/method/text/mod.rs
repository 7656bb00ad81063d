//! Prompts made of words: hand-written, or vectors learned in their place.

pub mod cocoop;
pub mod coop;
pub mod guided;
pub mod kgcoop;
pub mod prograd;
pub mod zeroshot;
