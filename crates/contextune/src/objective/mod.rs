//! Features to logits and loss.

pub mod contrastive;
pub mod linear_head;
pub mod similarity;
