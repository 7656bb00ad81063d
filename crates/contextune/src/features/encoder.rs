//! Pictures to image features: decoding on a thread beside the tower, in batches of bounded memory.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::backbone::{ImageTower, PixelNormalisation};
use crate::image::{
    self, DecodeOptions, ImageError, Picture, Pixels, PlanarRgb, Preprocess, RandomResizedCrop,
};

/// Pictures that go through the tower at once.
const BATCH: usize = 32;

/// From a file to the pixels that a tower sees.
#[derive(Clone, Debug)]
pub struct PictureReader {
    /// From a decoded picture to the tower's square.
    pub preprocess: Preprocess,
    /// How pictures are decoded, and what is refused.
    pub decoding: DecodeOptions,
}

/// A frozen image tower with what belongs in front of it.
#[derive(Clone, Debug)]
pub struct PictureEncoder {
    /// The tower.
    pub tower: ImageTower,
    /// What the tower expects of its pixels.
    pub normalisation: PixelNormalisation,
    /// How pictures are read.
    pub reader: PictureReader,
    /// Where the tower runs.
    pub device: Device,
}

/// What the tower sees of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// The shorter side resized and the middle cut out, as for the test.
    Whole,
    /// A random crop, mirrored half the time, as CoOp trains ([`RandomResizedCrop`]). Which one follows from the picture's
    /// bytes and these numbers alone: every run draws the same.
    Random {
        /// The smallest share of the picture's area that a crop may have, in percent.
        least_area: u8,
        /// Seed of the run.
        seed: u64,
        /// Which of the picture's views.
        index: usize,
    },
}

/// A view to encode.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The picture.
    pub path: &'a Path,
    /// Its view.
    pub view: View,
}

/// What came of some requests.
#[derive(Debug, Default)]
pub struct EncodedBatch {
    /// How many requests these were.
    pub requests: usize,
    /// Which of the requests could be encoded, ascending.
    pub kept: Vec<usize>,
    /// Their features one after another, D each, not of unit length.
    pub features: Vec<f32>,
    /// The pictures that could not be read, with the reason.
    pub skipped: Vec<(PathBuf, ImageError)>,
}

/// One batch between the decoding thread and the tower.
#[derive(Default)]
struct Decoded {
    requests: usize,
    kept: Vec<usize>,
    /// `[kept, 3, size, size]` in 0..1.
    pixels: Vec<f32>,
    skipped: Vec<(PathBuf, ImageError)>,
}

impl PictureEncoder {
    /// Encodes `requests` in batches and hands each to `take`. Within a batch, requests for one picture that follow each
    /// other decode it once.
    pub fn encode(&self, requests: &[Request<'_>], mut take: impl FnMut(EncodedBatch)) {
        let (sender, receiver) = mpsc::sync_channel::<Decoded>(1);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for (batch, chunk) in requests.chunks(BATCH).enumerate() {
                    if sender.send(self.decode(batch * BATCH, chunk)).is_err() {
                        break; // the receiving side is gone, so is the reason to go on
                    }
                }
            });
            for decoded in receiver {
                let features = match decoded.kept.is_empty() {
                    true => Vec::new(),
                    false => self.features(decoded.pixels),
                };
                take(EncodedBatch {
                    requests: decoded.requests,
                    kept: decoded.kept,
                    features,
                    skipped: decoded.skipped,
                });
            }
        });
    }

    /// Features of pictures that are decoded already: pixels `[B, 3, size, size]` in 0..1, one after another.
    pub fn features(&self, pixels: Vec<f32>) -> Vec<f32> {
        let size = self.reader.preprocess.size as usize;
        let batch = pixels.len() / (3 * size * size);
        let pixels = TensorData::new(pixels, [batch, 3, size, size]);
        let pixels = Tensor::from_data(pixels, &self.device);
        let features = self.tower.forward(self.normalisation.forward(pixels)); // [B, D]
        features
            .into_data()
            .try_to_vec()
            .expect("the tower computes in 32-bit floats")
    }

    /// The pixels of some requests, of which the first has the number `first`.
    fn decode(&self, first: usize, requests: &[Request<'_>]) -> Decoded {
        let of_one_picture: Vec<&[Request<'_>]> =
            requests.chunk_by(|a, b| a.path == b.path).collect();
        let pictures: Vec<Result<Vec<f32>, ImageError>> = of_one_picture
            .par_iter()
            .map(|requests| self.reader.views(requests))
            .collect();
        let mut decoded = Decoded {
            requests: requests.len(),
            ..Decoded::default()
        };
        let mut next = first;
        for (requests, outcome) in of_one_picture.iter().zip(pictures) {
            match outcome {
                Ok(pixels) => {
                    decoded.kept.extend(next..next + requests.len());
                    decoded.pixels.extend(pixels);
                }
                Err(error) => decoded.skipped.push((requests[0].path.to_owned(), error)),
            }
            next += requests.len();
        }
        decoded
    }
}

impl PictureReader {
    /// A picture held in memory as it is, `[3, size, size]` in 0..1.
    ///
    /// # Errors
    /// A picture that cannot be read.
    pub fn whole(&self, bytes: &[u8]) -> Result<Vec<f32>, ImageError> {
        let view = self
            .preprocess
            .apply(&image::decode(bytes, &self.decoding)?);
        let mut pixels = vec![0.0; view.as_bytes().len()];
        view.write_unit_floats(&mut pixels)?;
        Ok(pixels)
    }

    /// The views of one picture, `[requests, 3, size, size]` in 0..1.
    ///
    /// # Errors
    /// A picture that cannot be read.
    pub fn views(&self, requests: &[Request<'_>]) -> Result<Vec<f32>, ImageError> {
        let picture = image::open(requests[0].path, &self.decoding)?;
        let mut crops = None;
        let mut pixels = Vec::new();
        for request in requests {
            let view = match request.view {
                View::Whole => self.preprocess.apply(&picture),
                View::Random {
                    least_area,
                    seed,
                    index,
                } => crops
                    .get_or_insert_with(|| RandomViews::of(picture.clone()))
                    .view(least_area, seed, index, self.preprocess.size),
            };
            let start = pixels.len();
            pixels.resize(start + view.as_bytes().len(), 0.0);
            view.write_unit_floats(&mut pixels[start..])?;
        }
        Ok(pixels)
    }
}

/// The random views of one picture.
struct RandomViews {
    picture: Picture,
    /// Of the pixels.
    hash: blake3::Hash,
}

impl RandomViews {
    fn of(picture: Picture) -> Self {
        let picture = picture.into_rgb(); // before the crop, as in the official training transform
        let hash = match picture.pixels() {
            Pixels::Rgb(bytes) => blake3::hash(bytes),
            _ => unreachable!("the picture was converted to RGB"),
        };
        Self { picture, hash }
    }

    fn view(&self, least_area: u8, seed: u64, index: usize, size: u32) -> PlanarRgb {
        let mut stream = blake3::Hasher::new();
        stream.update(self.hash.as_bytes());
        stream.update(&seed.to_le_bytes());
        stream.update(&(index as u64).to_le_bytes());
        let mut random = ChaCha8Rng::from_seed(*stream.finalize().as_bytes());
        let (width, height) = (self.picture.width(), self.picture.height());
        let crop = RandomResizedCrop {
            scale: (f64::from(least_area) / 100.0, 1.0),
            ..RandomResizedCrop::default()
        };
        let view = crop.draw(width, height, &mut random);
        view.apply(&self.picture, size)
    }
}
