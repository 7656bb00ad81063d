//! What is learned, one file per method.

use burn::tensor::Tensor;

use crate::train::{Parameters, TrainError};

pub mod class_features;
mod classification;
pub mod coop;
pub mod format;
pub mod zeroshot;

pub use classification::Classification;

/// A prompt that classifies: learned parameters turn image features into logits.
pub trait Prompt {
    /// `image_features` `[B, D]`, not necessarily of unit length -> logits `[B, K]`.
    fn logits(
        &self,
        parameters: &Parameters,
        image_features: Tensor<2>,
    ) -> Result<Tensor<2>, TrainError>;
}
