//! Random views of a picture for training, as torchvision draws them.
//!
//! Drawing is separate from the work on pixels: a [`CropView`] is a few numbers, drawn in a fixed order from one
//! stream, and can be applied on any thread.

use rand::Rng;

use super::resize::{Rect, resize};
use super::{Filter, Picture, PlanarRgb};

/// torchvision's `RandomResizedCrop` followed by `RandomHorizontalFlip`.
///
/// The stream of random numbers is ours (`Rng::next_u64`, 53 bits a number), not PyTorch's: the distribution is
/// the same, the views drawn for a seed are not. Give it a generator with a documented algorithm, such as
/// `ChaCha8Rng`, and a seed draws the same views on every platform.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomResizedCrop {
    /// Lower and upper bound of the crop's share of the picture's area, 0 < lower <= upper.
    pub scale: (f64, f64),
    /// Lower and upper bound of the crop's width / height, drawn evenly in its logarithm.
    pub ratio: (f64, f64),
    /// Probability of mirroring left and right, 0 to 1.
    pub flip_probability: f64,
}

impl Default for RandomResizedCrop {
    /// Returns what CoOp and its successors train with: 8 % to 100 % of the area, 3:4 to 4:3, mirrored half the time.
    fn default() -> Self {
        Self {
            scale: (0.08, 1.0),
            ratio: (3.0 / 4.0, 4.0 / 3.0),
            flip_probability: 0.5,
        }
    }
}

impl RandomResizedCrop {
    /// Draws a view of a picture of `width` x `height` pixels, both at least 1.
    pub fn draw(&self, width: u32, height: u32, rng: &mut impl Rng) -> CropView {
        let crop = self
            .draw_crop(width, height, rng)
            .unwrap_or_else(|| self.central_crop(width, height));
        CropView {
            flip: uniform(rng, 0.0, 1.0) < self.flip_probability,
            ..crop
        }
    }

    /// Tries an area and a ratio whose rectangle fits.
    fn draw_crop(&self, width: u32, height: u32, rng: &mut impl Rng) -> Option<CropView> {
        let area = f64::from(width) * f64::from(height);
        for _ in 0..10 {
            let target = area * uniform(rng, self.scale.0, self.scale.1);
            let ratio = uniform(rng, self.ratio.0.ln(), self.ratio.1.ln()).exp();
            let crop_width = (target * ratio).sqrt().round_ties_even() as u32;
            let crop_height = (target / ratio).sqrt().round_ties_even() as u32;
            if (1..=width).contains(&crop_width) && (1..=height).contains(&crop_height) {
                let top = below(rng, height - crop_height + 1);
                let left = below(rng, width - crop_width + 1);
                return Some(CropView {
                    left,
                    top,
                    width: crop_width,
                    height: crop_height,
                    flip: false,
                });
            }
        }
        None
    }

    /// Returns the largest central rectangle within the bounds of the ratio.
    fn central_crop(&self, width: u32, height: u32) -> CropView {
        let ratio = f64::from(width) / f64::from(height);
        let (mut crop_width, mut crop_height) = (width, height);
        if ratio < self.ratio.0 {
            crop_height = (f64::from(width) / self.ratio.0).round_ties_even() as u32;
        } else if ratio > self.ratio.1 {
            crop_width = (f64::from(height) * self.ratio.1).round_ties_even() as u32;
        }
        let (crop_width, crop_height) = (crop_width.clamp(1, width), crop_height.clamp(1, height));
        let (left, top) = ((width - crop_width) / 2, (height - crop_height) / 2);
        CropView {
            left,
            top,
            width: crop_width,
            height: crop_height,
            flip: false,
        }
    }
}

/// One view of a picture: a rectangle of it, possibly mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CropView {
    /// First column of the rectangle.
    pub left: u32,
    /// First row of the rectangle.
    pub top: u32,
    /// Columns of the rectangle, at least 1.
    pub width: u32,
    /// Rows of the rectangle, at least 1.
    pub height: u32,
    /// Whether left and right are swapped.
    pub flip: bool,
}

impl CropView {
    /// Computes the view as bytes `[3, size, size]`: crop, bicubic resize, flip. Training recipes convert to RGB before
    /// they augment (`Picture::into_rgb`); a picture in another mode is converted in the end.
    ///
    /// # Panics
    /// If the rectangle does not lie inside the picture or `size` is 0.
    pub fn apply(&self, picture: &Picture, size: u32) -> PlanarRgb {
        let Self {
            left,
            top,
            width,
            height,
            flip,
        } = *self;
        let fits = |start: u32, length: u32, side: u32| {
            length > 0 && start <= side && length <= side - start
        };
        assert!(
            size > 0 && fits(left, width, picture.width()) && fits(top, height, picture.height()),
            "{self:?} at {size} pixels does not lie inside a picture of {} x {}",
            picture.width(),
            picture.height()
        );
        let window = Rect {
            left: 0,
            top: 0,
            width: size,
            height: size,
        };
        let mut view = resize(
            picture,
            Rect {
                left,
                top,
                width,
                height,
            },
            (size, size),
            window,
            Filter::Bicubic,
        )
        .to_planar();
        if flip {
            view.as_bytes_mut()
                .chunks_exact_mut(size as usize)
                .for_each(<[u8]>::reverse);
        }
        view
    }
}

/// Draws evenly from [low, high), from 53 random bits.
fn uniform(rng: &mut impl Rng, low: f64, high: f64) -> f64 {
    let unit = (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    low + unit * (high - low)
}

/// Draws evenly from 0 .. `bound`, which is at least 1.
fn below(rng: &mut impl Rng, bound: u32) -> u32 {
    (uniform(rng, 0.0, f64::from(bound)) as u32).min(bound - 1)
}
