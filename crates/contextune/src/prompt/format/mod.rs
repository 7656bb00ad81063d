//! Files that hold a learned prompt.

mod safetensors;

pub use safetensors::{PromptFile, PromptFileError};
