//! What a tower sees of a picture: the whole of it, or random crops.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::image::{Picture, Pixels, PlanarRgb, RandomResizedCrop};

/// The views of each picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Views {
    /// The picture itself, as for the test.
    Whole,
    /// Random views of one seed.
    Random {
        /// Views of each picture, at least one.
        count: usize,
        /// The smallest share of the picture's area that a crop may have, in percent.
        least_area: u8,
        /// Seed of the run.
        seed: u64,
    },
}

/// One view of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// The shorter side resized and the middle cut out, as for the test.
    Whole,
    /// A random crop, mirrored half the time, as CoOp trains ([`RandomResizedCrop`]). Which one follows from the picture's
    /// pixels and these numbers alone: every run draws the same.
    Random {
        /// The smallest share of the picture's area that a crop may have, in percent.
        least_area: u8,
        /// Seed of the run.
        seed: u64,
        /// Which of the picture's views.
        index: usize,
    },
}

impl Views {
    /// Returns the number of views of each picture.
    pub fn count(self) -> usize {
        match self {
            Self::Whole => 1,
            Self::Random { count, .. } => count,
        }
    }

    /// Returns the views of a picture in their order.
    pub(super) fn each(self) -> impl Iterator<Item = View> {
        (0..self.count()).map(move |index| match self {
            Self::Whole => View::Whole,
            Self::Random {
                least_area, seed, ..
            } => View::Random {
                least_area,
                seed,
                index,
            },
        })
    }
}

/// The random views of one picture.
#[derive(Debug)]
pub(super) struct RandomViews {
    picture: Picture,
    /// Of the pixels.
    hash: blake3::Hash,
}

impl RandomViews {
    pub(super) fn of(picture: Picture) -> Self {
        let picture = picture.into_rgb(); // before the crop, as in the official training transform
        let hash = match picture.pixels() {
            Pixels::Rgb(bytes) => blake3::hash(bytes),
            _ => unreachable!("the picture was converted to RGB"),
        };
        Self { picture, hash }
    }

    pub(super) fn view(&self, least_area: u8, seed: u64, index: usize, size: u32) -> PlanarRgb {
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
