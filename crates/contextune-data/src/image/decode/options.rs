//! Bounds on what is decoded.

use super::decoded::damaged;
use crate::image::{Format, ImageError};

/// Bounds and choices while decoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Pictures that declare more pixels (width x height) are refused before anything is allocated for them.
    /// Default 8192 x 8192 (67 million), enough for any camera's ordinary files. Decoding takes about 3 bytes a
    /// pixel for ordinary JPEG and PNG, 9 for progressive JPEG, at most 12 (16-bit RGBA PNG, animated WebP: 0.8 GB).
    pub max_pixels: u64,
    /// Larger files are not read. Default 256 MiB, which is more than `max_pixels` uncompressed RGB need.
    pub max_file_bytes: u64,
    /// Turn and mirror the picture as its EXIF orientation says. Default false: PIL's `Image.open` doesn't either.
    pub honour_exif: bool,
}

impl DecodeOptions {
    /// The longest side that is decoded, in pixels: the most that JPEG and GIF can hold. PNG and BMP headers can
    /// declare a strip of one pixel by billions, which `max_pixels` alone doesn't keep in hand.
    pub const MAX_SIDE: u32 = 65_535;

    /// Refuses a size that a header declares and that is beyond the bounds or empty.
    pub(super) fn check_size(
        &self,
        format: Format,
        width: u32,
        height: u32,
    ) -> Result<(), ImageError> {
        let too_long = width > Self::MAX_SIDE || height > Self::MAX_SIDE;
        if too_long || u64::from(width) * u64::from(height) > self.max_pixels {
            let (max_pixels, max_side) = (self.max_pixels, Self::MAX_SIDE);
            return Err(ImageError::TooManyPixels {
                format,
                width,
                height,
                max_pixels,
                max_side,
            });
        }
        if width == 0 || height == 0 {
            return Err(damaged(
                format,
                format!("its header declares {width} x {height} pixels"),
            ));
        }
        Ok(())
    }
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            max_pixels: 8192 * 8192,
            max_file_bytes: 256 << 20,
            honour_exif: false,
        }
    }
}
