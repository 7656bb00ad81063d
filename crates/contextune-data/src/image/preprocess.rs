//! The transform in front of a frozen CLIP.

use super::resize::{Rect, resize};
use super::{Picture, PlanarRgb};

/// torchvision's `Resize(size, BICUBIC)` of the shorter side, `CenterCrop(size)`, then RGB: OpenAI's transform up to
/// `ToTensor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preprocess {
    /// Side of the square result in pixels (the tower's input resolution); at least 1.
    pub size: u32,
    /// What the shorter side of the picture is resized to, at least `size`; the middle of it is cut out.
    pub shorter_side: u32,
    /// Convert to RGB before the resize, as Dassl and CoOp do, instead of after the crop, as OpenAI does. It makes a
    /// difference for palettes, bilevel pictures, CMYK and alpha.
    pub rgb_first: bool,
}

impl Preprocess {
    /// Returns OpenAI's transform for this side: RGB after the crop.
    pub fn new(size: u32) -> Self {
        Self {
            size,
            shorter_side: size,
            rgb_first: false,
        }
    }

    /// Resizes and crops a picture to bytes `[3, size, size]`.
    ///
    /// # Panics
    /// If `size` is 0 or larger than `shorter_side`.
    pub fn apply(&self, picture: &Picture) -> PlanarRgb {
        assert!(
            self.size > 0 && self.shorter_side >= self.size,
            "a preprocessed picture has at least one pixel, and lies within the resized one"
        );
        let converted = self.rgb_first.then(|| picture.clone().into_rgb());
        let picture = converted.as_ref().unwrap_or(picture);
        let (width, height) = (picture.width(), picture.height());
        let whole = Rect {
            left: 0,
            top: 0,
            width,
            height,
        };
        let scaled = (
            scaled_side(width, width.min(height), self.shorter_side),
            scaled_side(height, width.min(height), self.shorter_side),
        );
        let window = Rect {
            left: centre_offset(scaled.0, self.size),
            top: centre_offset(scaled.1, self.size),
            width: self.size,
            height: self.size,
        };
        resize(picture, whole, scaled, window).to_planar()
    }
}

/// Returns the length of a side once the shorter one has become `size`: rounded down.
fn scaled_side(side: u32, shorter: u32, size: u32) -> u32 {
    (u64::from(side) * u64::from(size) / u64::from(shorter)) as u32
}

/// Returns `round((side - size) / 2)` in Python's rounding: halves go to the even number.
fn centre_offset(side: u32, size: u32) -> u32 {
    let margin = side - size;
    let half = margin / 2;
    if margin % 2 == 1 && half % 2 == 1 {
        half + 1
    } else {
        half
    }
}
