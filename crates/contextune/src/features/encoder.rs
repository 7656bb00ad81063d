//! Pictures to image features: decoding on a thread beside the tower, in batches of bounded memory.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use crate::backbone::{ImageTower, PixelNormalisation};
use crate::image::{self, DecodeOptions, ImageError, Preprocess};

/// Pictures that go through the tower at once.
const BATCH: usize = 32;

/// A frozen image tower with what belongs in front of it.
#[derive(Clone, Debug)]
pub struct PictureEncoder {
    /// The tower.
    pub tower: ImageTower,
    /// What the tower expects of its pixels.
    pub normalisation: PixelNormalisation,
    /// From a decoded picture to the tower's square.
    pub preprocess: Preprocess,
    /// How pictures are decoded, and what is refused.
    pub decoding: DecodeOptions,
    /// Where the tower runs.
    pub device: Device,
}

/// Features of the pictures that could be read.
#[derive(Debug, Default)]
pub struct EncodedPictures {
    /// Which of the given pictures these are, ascending.
    pub kept: Vec<usize>,
    /// Their features one after another, D each, not of unit length.
    pub features: Vec<f32>,
    /// The pictures that could not be read, with the reason.
    pub skipped: Vec<(PathBuf, ImageError)>,
}

/// One batch between the decoding thread and the tower.
struct Decoded {
    /// Index and pixels `[3, size, size]` in 0..1, or the reason why there are none.
    pictures: Vec<(usize, Result<Vec<f32>, ImageError>)>,
}

impl PictureEncoder {
    /// Encodes `paths`, calling `progress` with the number of pictures done after each batch.
    pub fn encode(&self, paths: &[PathBuf], mut progress: impl FnMut(usize)) -> EncodedPictures {
        let mut encoded = EncodedPictures::default();
        let (sender, receiver) = mpsc::sync_channel::<Decoded>(1);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for (batch, chunk) in paths.chunks(BATCH).enumerate() {
                    let pictures = chunk
                        .par_iter()
                        .enumerate()
                        .map(|(offset, path)| (batch * BATCH + offset, self.pixels(path)))
                        .collect();
                    if sender.send(Decoded { pictures }).is_err() {
                        break; // the receiving side is gone, so is the reason to go on
                    }
                }
            });
            let mut done = 0;
            for batch in receiver {
                done += batch.pictures.len();
                let mut pixels = Vec::new();
                for (index, outcome) in batch.pictures {
                    match outcome {
                        Ok(values) => {
                            encoded.kept.push(index);
                            pixels.extend(values);
                        }
                        Err(error) => encoded.skipped.push((paths[index].clone(), error)),
                    }
                }
                if !pixels.is_empty() {
                    encoded.features.extend(self.features(pixels));
                }
                progress(done);
            }
        });
        encoded
    }

    /// Features of pictures that are decoded already: pixels `[B, 3, size, size]` in 0..1, one after another.
    pub fn features(&self, pixels: Vec<f32>) -> Vec<f32> {
        let size = self.preprocess.size as usize;
        let batch = pixels.len() / (3 * size * size);
        let pixels = TensorData::new(pixels, [batch, 3, size, size]);
        let pixels = Tensor::from_data(pixels, &self.device);
        let features = self.tower.forward(self.normalisation.forward(pixels)); // [B, D]
        features
            .into_data()
            .try_to_vec()
            .expect("the tower computes in 32-bit floats")
    }

    fn pixels(&self, path: &Path) -> Result<Vec<f32>, ImageError> {
        let prepared = self.preprocess.apply(&image::open(path, &self.decoding)?);
        let mut pixels = vec![0.0; prepared.as_bytes().len()];
        prepared.write_unit_floats(&mut pixels)?;
        Ok(pixels)
    }
}
