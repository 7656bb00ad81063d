//! WebP: lossy, lossless, and the first frame of an animation.

use std::io::Cursor;

use image_webp::WebPDecoder;

use super::decoded::{Decoded, damaged};
use super::options::DecodeOptions;
use crate::image::{Format, ImageError, Pixels};

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, ImageError> {
    // The container declares its length; one byte of padding is often left off. Without this an animation cut in
    // a later frame would pass, and the decoder tolerates some missing data at the end.
    let declared = bytes
        .get(4..8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes);
    if (bytes.len() as u64) + 1 < u64::from(declared) + 8 {
        return Err(damaged(
            Format::WebP,
            format!("it is cut short ({} of {declared} bytes)", bytes.len()),
        ));
    }
    let mut decoder =
        WebPDecoder::new(Cursor::new(bytes)).map_err(|error| damaged(Format::WebP, error))?;
    let (width, height) = decoder.dimensions();
    options.check_size(Format::WebP, width, height)?;
    let size = decoder
        .output_buffer_size()
        .ok_or_else(|| damaged(Format::WebP, "its size overflows memory"))?;
    decoder.set_memory_limit(bytes.len());
    let exif = if options.honour_exif {
        decoder
            .exif_metadata()
            .map_err(|error| damaged(Format::WebP, error))?
    } else {
        None
    };
    let mut data = vec![0; size];
    decoder
        .read_image(&mut data)
        .map_err(|error| damaged(Format::WebP, error))?;
    let pixels = if decoder.has_alpha() {
        Pixels::Rgba(data)
    } else {
        Pixels::Rgb(data)
    };
    Ok(Decoded {
        width,
        height,
        pixels,
        exif,
    })
}
