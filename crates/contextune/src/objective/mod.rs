//! Features to logits and loss.

pub mod contrastive;
pub mod similarity;
