//! A run: its settings, its folder, how it is learned, and how it is used again.

mod folder;
pub mod import;
mod learned;
mod learning;
mod measured;
mod result;
mod settings;

pub use folder::{RunError, RunFolder};
pub use learned::Learned;
pub use learning::{
    LearnError, Outcome, RunWatcher, encoder, feature_encoder, few_shot, learn, sample,
    training_features,
};
pub use measured::Measured;
pub use result::{RunResult, available_memory_bytes, peak_memory_bytes, per_class};
pub use settings::{LearnFrom, RecipeName, Settings};
