//! Recognises a file by its content and decodes it within bounds.

mod bmp;
mod gif;
mod jpeg;
mod png;
mod webp;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::picture::Picture;
use super::{ImageError, Pixels};

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

    fn check_size(&self, format: Format, width: u32, height: u32) -> Result<(), ImageError> {
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

impl Format {
    /// Recognises a format by the first bytes of a file; the error says what they look like instead.
    pub fn recognise(bytes: &[u8]) -> Result<Self, ImageError> {
        let found = match bytes {
            [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => return Ok(Self::Png),
            [0xff, 0xd8, 0xff, ..] => return Ok(Self::Jpeg),
            [
                b'R',
                b'I',
                b'F',
                b'F',
                _,
                _,
                _,
                _,
                b'W',
                b'E',
                b'B',
                b'P',
                ..,
            ] => return Ok(Self::WebP),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => return Ok(Self::Gif),
            [b'B', b'M', ..] => return Ok(Self::Bmp),
            [] => "the file is empty",
            [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => "this is a TIFF file",
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => "this is a HEIC, AVIF or video file",
            [0xff, 0x0a, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => {
                "this is a JPEG XL file"
            }
            [b'<', ..] | [0xef, 0xbb, 0xbf, b'<', ..] => "this is an SVG, HTML or XML file",
            _ => "the content is no known picture format",
        };
        Err(ImageError::UnknownFormat { found })
    }
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

/// Reads and decodes a picture file; its errors name the file.
pub fn open(path: impl AsRef<Path>, options: &DecodeOptions) -> Result<Picture, ImageError> {
    let path = path.as_ref();
    read(path, options)
        .and_then(|bytes| decode(&bytes, options))
        .map_err(|source| ImageError::File {
            path: path.to_owned(),
            source: Box::new(source),
        })
}

/// Decodes a picture held in memory. A damaged or truncated file is an error, as in PIL.
pub fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Picture, ImageError> {
    let decoded = match Format::recognise(bytes)? {
        Format::Png => png::decode(bytes, options),
        Format::Jpeg => jpeg::decode(bytes, options),
        Format::WebP => webp::decode(bytes, options),
        Format::Gif => gif::decode(bytes, options),
        Format::Bmp => bmp::decode(bytes, options),
    }?;
    let picture = Picture::new(decoded.width, decoded.height, decoded.pixels)?;
    match decoded.exif {
        Some(exif) if options.honour_exif => Ok(picture.upright(&exif)),
        _ => Ok(picture),
    }
}

/// What a format's decoder hands back.
struct Decoded {
    width: u32,
    height: u32,
    pixels: Pixels,
    /// The EXIF block (a TIFF structure), where the format has one.
    exif: Option<Vec<u8>>,
}

/// The bytes of a file that is not too large.
pub fn read(path: &Path, options: &DecodeOptions) -> Result<Vec<u8>, ImageError> {
    let limit = options.max_file_bytes;
    let file = File::open(path)?;
    let declared = file.metadata()?.len();
    if declared > limit {
        return Err(ImageError::FileTooLarge { limit });
    }
    // `take` as well: pipes and devices declare no length, and a file may grow.
    let mut bytes = Vec::with_capacity(declared as usize + 1);
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(ImageError::FileTooLarge { limit });
    }
    Ok(bytes)
}

fn damaged(format: Format, reason: impl fmt::Display) -> ImageError {
    ImageError::Damaged {
        format,
        reason: reason.to_string(),
    }
}

/// Looks indices up; PIL pads short palettes with black.
fn look_up(indices: impl Iterator<Item = u8>, palette: &[u8]) -> Vec<u8> {
    let mut table = [[0; 3]; 256];
    for (entry, color) in table.iter_mut().zip(palette.as_chunks::<3>().0) {
        *entry = *color;
    }
    let mut rgb = Vec::with_capacity(3 * indices.size_hint().0);
    for index in indices {
        rgb.extend_from_slice(&table[usize::from(index)]);
    }
    rgb
}
