//! Metrics on logits and similarities.

mod accuracy;
mod retrieval;

pub use accuracy::{Accuracy, largest, softmax};
pub use retrieval::{Retrieval, retrieval};
