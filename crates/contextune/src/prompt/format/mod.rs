//! Files that hold a learned prompt.

mod dassl;
mod safetensors;

pub use dassl::{DasslCheckpoint, DasslError, DasslExport, DasslFamily};
pub use safetensors::{PromptFile, PromptFileError};
