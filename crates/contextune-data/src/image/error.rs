//! What can be wrong with a picture.

use std::io;
use std::path::PathBuf;

use super::format::Format;

/// Why a picture could not be read or decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Any of the errors below, with the file it happened in.
    #[error("{}: {source}", path.display())]
    File {
        /// The file as given to [`open`](super::open).
        path: PathBuf,
        /// What is wrong with it.
        source: Box<ImageError>,
    },
    /// The file could not be read.
    #[error("cannot read the file: {0}")]
    Io(#[from] io::Error),
    /// The file is larger than [`DecodeOptions::max_file_bytes`](super::DecodeOptions::max_file_bytes); nothing of it was kept.
    #[error(
        "the file has more than {limit} bytes, the most that is read: save the picture smaller"
    )]
    FileTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The content is none of the supported formats.
    #[error("{found}; supported are PNG, JPEG, WebP, GIF and BMP: convert it to one of them")]
    UnknownFormat {
        /// What the first bytes look like.
        found: &'static str,
    },
    /// The header declares a picture larger than [`DecodeOptions::max_pixels`](super::DecodeOptions::max_pixels) or than
    /// [`DecodeOptions::MAX_SIDE`](super::DecodeOptions::MAX_SIDE); no pixel was decoded.
    #[error(
        "the {format} header declares {width} x {height} pixels; at most {max_pixels} pixels, {max_side} a side, are decoded: save \
         the picture smaller"
    )]
    TooManyPixels {
        /// The format of the file.
        format: Format,
        /// Declared width in pixels.
        width: u32,
        /// Declared height in pixels.
        height: u32,
        /// The limit on width x height.
        max_pixels: u64,
        /// The limit on each side.
        max_side: u32,
    },
    /// The file is recognised but damaged, cut short, or uses a feature that is not supported.
    #[error(
        "not a readable {format} picture: {reason}; re-save it with an image editor or fetch it again"
    )]
    Damaged {
        /// The format of the file.
        format: Format,
        /// What the decoder stumbled over.
        reason: String,
    },
    /// A buffer of the wrong length was handed in.
    #[error("a buffer of {actual} values where {expected} are needed")]
    BufferLength {
        /// Values needed.
        expected: usize,
        /// Values in the buffer.
        actual: usize,
    },
}
