//! Features to logits and loss.

pub mod contrastive;
pub mod label_map;
pub mod linear_head;
pub mod similarity;
