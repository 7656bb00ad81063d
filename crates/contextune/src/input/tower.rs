//! The frozen image tower with what belongs in front of it.

use burn::tensor::{Device, Tensor, TensorData};

use crate::backbone::{ImageTower, PixelNormalisation};
use crate::parameters::{ParameterError, elements_of};

/// A frozen image tower with what belongs in front of it.
#[derive(Clone, Debug)]
pub struct PictureTower {
    /// The tower.
    pub tower: ImageTower,
    /// What the tower expects of its pixels.
    pub normalisation: PixelNormalisation,
    /// Side of its input.
    pub side: usize,
    /// Where the tower runs.
    pub device: Device,
}

impl PictureTower {
    /// Returns the features of pictures, `[B, D]` in row-major order, not of unit length, from their pixels
    /// `[B, 3, side, side]` in 0..1, one after another.
    ///
    /// # Errors
    /// The device does not compute in 32-bit floats.
    pub fn features(&self, pixels: Vec<f32>) -> Result<Vec<f32>, ParameterError> {
        let side = self.side;
        let batch = pixels.len() / (3 * side * side);
        let pixels = TensorData::new(pixels, [batch, 3, side, side]);
        let pixels = Tensor::from_data(pixels, &self.device);
        let features = self.tower.forward(self.normalisation.forward(pixels)); // [B, D]
        elements_of("image_features", features)
    }
}
