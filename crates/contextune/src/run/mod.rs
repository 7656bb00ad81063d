//! A run: its settings, its folder, how it is learned, and how it is used again; the same for every method and task.

mod any;
mod error;
mod folder;
pub mod import;
mod learned;
mod learning;
mod memory;
pub mod registry;
mod result;
mod settings;
mod start;
mod watcher;

pub use any::{AnyAnswer, AnyMethod, AnyPredictor, ErasedMethod, ErasedPredictor};
pub use error::LearnError;
pub use folder::{RunError, RunFolder};
pub use learned::Learned;
pub use learning::{AnyMeasured, Job, JobOutcome};
pub use memory::{available_memory_bytes, peak_memory_bytes};
pub use result::RunResult;
pub use settings::{RUN_FORMAT, Settings};
pub use start::{Outcome, encode_training, encoder, feature_encoder, learn};
pub use watcher::RunWatcher;
