//! Files that hold a learned prompt, or the classifier that it makes.

pub mod classifier;
mod dassl;
#[cfg(feature = "onnx")]
pub mod onnx;
mod safetensors;

pub use dassl::{DasslCheckpoint, DasslError, DasslExport, DasslFamily};
pub use safetensors::{MethodRecord, PromptFile, PromptFileError};
pub(crate) use safetensors::{RESERVED, TEXT_FEATURES};
