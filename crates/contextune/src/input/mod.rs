//! Examples on disk to what a prompt is given of them: pixels, or features of the frozen image tower, computed once for each
//! (picture, view).

use burn::tensor::{Device, Tensor, TensorData};

mod cache;
mod encoder;
mod error;
mod pipeline;
mod reader;
mod table;
mod tower;
mod views;

pub use cache::{FeatureCache, KeptEncoding};
pub use encoder::{EncodingOptions, EncodingWatcher, InputEncoder, Place};
pub use error::InputError;
pub use reader::PictureReader;
pub use table::{Examples, InputTable};
pub use tower::PictureTower;
pub use views::{View, Views};

/// Pictures that go through a tower at once.
pub const PICTURES_AT_ONCE: usize = 32;

/// What a method is given of each example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InputKind {
    /// The feature that the frozen image tower makes of a picture.
    #[default]
    Features,
    /// The pixels of a picture: the method changes what the tower sees, or the tower.
    Pixels {
        /// Side of the square.
        side: usize,
        /// Whether the margin is cut off that the model cuts off its own input.
        margin: bool,
    },
}

/// A batch of B inputs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Inputs {
    /// Features of the frozen image tower, `[B, D]`, not of unit length.
    Features(Tensor<2>),
    /// Pixels in 0..1, `[B, 3, side, side]`.
    Pixels(Tensor<4>),
}

impl InputKind {
    /// Returns the number of values of one input, where a feature has `width` of them.
    pub fn values(self, width: usize) -> usize {
        match self {
            Self::Features => width,
            Self::Pixels { side, .. } => 3 * side * side,
        }
    }

    /// Returns a batch from the values of its inputs, one after another, [`Self::values`] for each of them.
    pub(crate) fn batch(self, values: Vec<f32>, width: usize, device: &Device) -> Inputs {
        let inputs = values.len() / self.values(width);
        match self {
            Self::Features => {
                let data = TensorData::new(values, [inputs, width]);
                Inputs::Features(Tensor::from_data(data, device))
            }
            Self::Pixels { side, .. } => {
                let data = TensorData::new(values, [inputs, 3, side, side]);
                Inputs::Pixels(Tensor::from_data(data, device))
            }
        }
    }
}

impl Inputs {
    /// Returns the number of inputs, B.
    pub fn count(&self) -> usize {
        match self {
            Self::Features(features) => features.dims()[0],
            Self::Pixels(pixels) => pixels.dims()[0],
        }
    }

    /// Returns the features, `[B, D]`, not of unit length.
    ///
    /// # Errors
    /// [`InputError::OtherKind`]: the inputs are pixels.
    pub fn features(&self) -> Result<Tensor<2>, InputError> {
        match self {
            Self::Features(features) => Ok(features.clone()),
            Self::Pixels(_) => Err(InputError::OtherKind {
                needed: "image features",
                found: "pixels",
            }),
        }
    }

    /// Returns the pixels in 0..1, `[B, 3, side, side]`.
    ///
    /// # Errors
    /// [`InputError::OtherKind`]: the inputs are features.
    pub fn pixels(&self) -> Result<Tensor<4>, InputError> {
        match self {
            Self::Pixels(pixels) => Ok(pixels.clone()),
            Self::Features(_) => Err(InputError::OtherKind {
                needed: "pixels",
                found: "image features",
            }),
        }
    }
}
