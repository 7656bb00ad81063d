//! Recognises a file by its content and decodes it within bounds.

mod bmp;
mod decoded;
mod gif;
mod jpeg;
mod options;
mod png;
mod webp;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::orientation::Orientation;
use super::{Format, ImageError, Picture};

pub use options::DecodeOptions;

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
    let exif = decoded.exif.filter(|_| options.honour_exif);
    Ok(match exif.and_then(|exif| Orientation::from_exif(&exif)) {
        Some(orientation) => picture.oriented(orientation),
        None => picture,
    })
}

/// Reads a file of at most [`DecodeOptions::max_file_bytes`].
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
