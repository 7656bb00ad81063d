//! Features to logits and loss.

pub mod similarity;
