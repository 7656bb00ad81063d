//! The transform in front of a frozen network.

use serde::{Deserialize, Serialize};

use super::resize::{Rect, resize};
use super::{Filter, Picture, PlanarRgb};

/// How a picture becomes the square that a network takes: resized, then its middle cut out, filled up where it is smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preprocess {
    /// Side of the square in pixels, at least 1.
    pub size: u32,
    /// To what size the picture is brought before.
    pub resize: Resize,
    /// How its pixels are weighed by that.
    pub filter: Filter,
    /// Red, green and blue around a picture that is smaller than the square.
    pub fill: [u8; 3],
    /// Where the middle lies if it cannot lie in the middle.
    pub middle: Middle,
    /// Convert to RGB before the resize, as Dassl, CoOp and Hugging Face do, instead of after the crop, as OpenAI does. It makes a
    /// difference for palettes, bilevel pictures, CMYK and alpha.
    pub rgb_first: bool,
}

/// To what size a picture is brought, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// It keeps its size.
    Unchanged,
    /// Its shorter side becomes this long, the longer one in proportion, rounded down (torchvision's `Resize`).
    ShorterSide(u32),
    /// Its longer side becomes this long, the shorter one in proportion, rounded (OpenCLIP's `ResizeKeepRatio`).
    LongerSide(u32),
    /// Both sides become this long.
    Square(u32),
}

/// Which of two middles is taken where a margin is odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Middle {
    /// Half the margin, halves to the even number (torchvision's `CenterCrop`).
    RoundedToEven,
    /// Half the margin, rounded down (Hugging Face).
    RoundedDown,
}

impl Preprocess {
    /// Returns OpenAI's transform for this side up to `ToTensor`: `Resize(size, BICUBIC)` of the shorter side,
    /// `CenterCrop(size)`, then RGB.
    pub fn new(size: u32) -> Self {
        Self {
            size,
            resize: Resize::ShorterSide(size),
            filter: Filter::Bicubic,
            fill: [0; 3],
            middle: Middle::RoundedToEven,
            rgb_first: false,
        }
    }

    /// Returns the transform that shows as much of a picture at another side of the square.
    pub fn at(&self, size: u32) -> Self {
        let own = u64::from(self.size.max(1));
        let scaled = |side: u32| (u64::from(side) * u64::from(size) / own).max(1) as u32;
        Self {
            size,
            resize: match self.resize {
                Resize::Unchanged => Resize::Unchanged,
                Resize::ShorterSide(side) => Resize::ShorterSide(scaled(side)),
                Resize::LongerSide(side) => Resize::LongerSide(scaled(side)),
                Resize::Square(side) => Resize::Square(scaled(side)),
            },
            ..*self
        }
    }

    /// Prepares a picture, bytes `[3, size, size]`.
    ///
    /// # Panics
    /// If `size` or a side of the resized picture is 0.
    pub fn apply(&self, picture: &Picture) -> PlanarRgb {
        let converted = self.rgb_first.then(|| picture.clone().into_rgb());
        let picture = converted.as_ref().unwrap_or(picture);
        let (width, height) = (picture.width(), picture.height());
        let whole = Rect {
            left: 0,
            top: 0,
            width,
            height,
        };
        let scaled = self.resize.of(width, height);
        let (left, columns) = self.middle.of(scaled.0, self.size);
        let (top, rows) = self.middle.of(scaled.1, self.size);
        let window = Rect {
            left,
            top,
            width: columns,
            height: rows,
        };
        let middle = resize(picture, whole, scaled, window, self.filter).to_planar();
        match (columns, rows) == (self.size, self.size) {
            true => middle,
            false => middle.centred(self.size, self.fill),
        }
    }
}

impl Resize {
    /// Returns width and height of the resized picture.
    fn of(self, width: u32, height: u32) -> (u32, u32) {
        match self {
            Self::Unchanged => (width, height),
            Self::Square(side) => (side, side),
            Self::ShorterSide(side) => {
                let shorter = u64::from(width.min(height));
                let scaled = |length: u32| (u64::from(length) * u64::from(side) / shorter) as u32;
                (scaled(width), scaled(height))
            }
            Self::LongerSide(side) => {
                let ratio = f64::from(width.max(height)) / f64::from(side);
                let scaled =
                    |length: u32| (f64::from(length) / ratio).round_ties_even().max(1.0) as u32;
                (scaled(width), scaled(height))
            }
        }
    }
}

impl Middle {
    /// Returns where the middle of a side begins, and how long it is: the whole side where it is shorter than the square.
    fn of(self, side: u32, size: u32) -> (u32, u32) {
        let Some(margin) = side.checked_sub(size) else {
            return (0, side);
        };
        let half = margin / 2;
        let up = self == Self::RoundedToEven && margin % 2 == 1 && half % 2 == 1;
        (half + u32::from(up), size)
    }
}
