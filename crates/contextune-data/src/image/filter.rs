//! Pillow's filters (`libImaging/Resample.c`).

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// How the pixels around a place are weighed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// The nearest pixel alone.
    Nearest,
    /// The mean of the pixels below.
    Box,
    /// A triangle.
    Bilinear,
    /// A raised cosine as wide as [`Filter::Bilinear`].
    Hamming,
    /// Keys' cubic with a = -0.5.
    #[default]
    Bicubic,
    /// A sinc of three lobes.
    Lanczos,
}

impl Filter {
    /// Returns the filter of Pillow's `Image.Resampling` with this number, which `resample` of Hugging Face's files is.
    pub fn of_pillow(number: u64) -> Option<Self> {
        [
            Self::Nearest,
            Self::Lanczos,
            Self::Bilinear,
            Self::Bicubic,
            Self::Box,
            Self::Hamming,
        ]
        .get(usize::try_from(number).ok()?)
        .copied()
    }

    /// Returns the filter of this name, as torchvision, timm and OpenCLIP call them.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "nearest" => Self::Nearest,
            "box" => Self::Box,
            "bilinear" => Self::Bilinear,
            "hamming" => Self::Hamming,
            "bicubic" => Self::Bicubic,
            "lanczos" => Self::Lanczos,
            _ => return None,
        })
    }

    /// How far it reaches, in pixels of the smaller of source and result.
    pub(super) fn radius(self) -> f64 {
        match self {
            Self::Nearest | Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    /// The weight of a pixel at a distance.
    pub(super) fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        match (self, x.abs()) {
            (Self::Nearest | Self::Box, _) if x > -0.5 && x <= 0.5 => 1.0,
            (Self::Bilinear, x) if x < 1.0 => 1.0 - x,
            (Self::Hamming, 0.0) => 1.0,
            (Self::Hamming, x) if x < 1.0 => {
                let x = PI * x;
                x.sin() / x * (0.54 + 0.46 * x.cos())
            }
            (Self::Bicubic, x) if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            (Self::Bicubic, x) if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            (Self::Lanczos, _) if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            _ => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    match x {
        0.0 => 1.0,
        x => (PI * x).sin() / (PI * x),
    }
}
