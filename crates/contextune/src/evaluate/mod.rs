//! Metrics on logits and similarities.

mod accuracy;
mod retrieval;
mod statistics;

pub use accuracy::{Accuracy, largest, softmax};
pub use retrieval::{Retrieval, retrieval};
pub use statistics::{Spread, harmonic_mean};
