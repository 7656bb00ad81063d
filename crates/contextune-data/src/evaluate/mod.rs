//! Metrics on logits and similarities.

mod accuracy;
mod confusion;
mod retrieval;
mod statistics;

pub use accuracy::{Accuracy, largest, most_probable, softmax};
pub use confusion::{ConfusedPair, Mistake, confused_pairs, mistakes, pairs_by_count};
pub use retrieval::{Retrieval, retrieval};
pub use statistics::{Spread, harmonic_mean};
