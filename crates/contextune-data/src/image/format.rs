//! The formats of picture files.

use std::fmt;

/// The supported file formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Portable Network Graphics, 1 to 16 bits, every colour type, interlaced or not; APNG: the default image.
    Png,
    /// Baseline and progressive JPEG: grey, YCbCr, RGB, CMYK, YCCK.
    Jpeg,
    /// WebP, lossy and lossless; animated: the first frame.
    WebP,
    /// The first frame of a GIF.
    Gif,
    /// Windows and OS/2 bitmaps.
    Bmp,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
        })
    }
}
