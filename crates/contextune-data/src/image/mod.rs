//! Bytes on disk to RGB in [0, 1], exactly as PIL and torchvision prepare pictures for CLIP.
//!
//! ```text
//! file --open/decode--> Picture --Preprocess--------------------> PlanarRgb --write_unit_floats--> batch
//!                               \--RandomResizedCrop -> CropView-/
//! ```
//!
//! A [`Picture`] keeps the pixel mode PIL would give it, because resizing happens in that mode: OpenAI's
//! transform resizes first and converts to RGB afterwards. Normalisation by mean and standard deviation is not
//! done here: it belongs to the tower's input, where prompts act before or after it.

mod augment;
mod decode;
mod error;
mod filter;
mod format;
mod miniature;
mod orientation;
mod picture;
mod preprocess;
mod resize;

pub use augment::{CropView, RandomResizedCrop};

pub use decode::{DecodeOptions, decode, open, read};
pub use error::ImageError;
pub use filter::Filter;
pub use format::Format;
pub use miniature::Miniature;
pub use picture::{Picture, Pixels, PlanarRgb};
pub use preprocess::{Middle, Preprocess, Resize};
