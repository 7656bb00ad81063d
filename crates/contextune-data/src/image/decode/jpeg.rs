//! JPEG through `zune-jpeg`, whose inverse DCT and chroma upsampling stay close to libjpeg-turbo's.

use std::io::Cursor;

use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::decoded::{Decoded, damaged};
use super::options::DecodeOptions;
use crate::image::{Format, ImageError, Pixels};

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, ImageError> {
    // Strict: otherwise a damaged scan gives a picture that is grey from there on, without a word.
    let settings = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(DecodeOptions::MAX_SIDE as usize)
        .set_max_height(DecodeOptions::MAX_SIDE as usize);
    let mut decoder = JpegDecoder::new_with_options(Cursor::new(bytes), settings);
    decoder
        .decode_headers()
        .map_err(|error| damaged(Format::Jpeg, error))?;
    let info = decoder
        .info()
        .ok_or_else(|| damaged(Format::Jpeg, "it has no frame header"))?;
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    options.check_size(Format::Jpeg, width, height)?;
    if !reaches_end_of_image(bytes) {
        return Err(damaged(
            Format::Jpeg,
            "it is cut short (no end-of-image marker)",
        ));
    }

    let stored = decoder.input_colorspace().unwrap_or(ColorSpace::YCbCr);
    let wanted = match stored {
        ColorSpace::Luma | ColorSpace::CMYK | ColorSpace::YCCK => stored,
        _ => ColorSpace::RGB,
    };
    decoder.set_options(settings.jpeg_set_out_colorspace(wanted));
    let mut data = decoder
        .decode()
        .map_err(|error| damaged(Format::Jpeg, error))?;
    let pixels = match wanted {
        ColorSpace::Luma => Pixels::Grey(data),
        ColorSpace::CMYK => {
            // Photoshop stores CMYK inverted, and PIL takes every four-channel JPEG for one of Photoshop's.
            data.iter_mut().for_each(|value| *value = 255 - *value);
            Pixels::Cmyk(data)
        }
        ColorSpace::YCCK => {
            data.as_chunks_mut::<4>()
                .0
                .iter_mut()
                .for_each(|pixel| *pixel = ycck_to_cmyk(*pixel));
            Pixels::Cmyk(data)
        }
        _ => Pixels::Rgb(data),
    };
    Ok(Decoded {
        width,
        height,
        pixels,
        exif: decoder.exif().cloned(),
    })
}

/// Converts YCCK to CMYK after PIL's inversion. libjpeg gives C = 255 - R with R, G, B by the JFIF formulas, so that
/// what the inversion leaves of C, M, Y is R, G, B.
fn ycck_to_cmyk([y, cb, cr, k]: [u8; 4]) -> [u8; 4] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    let red = y + 1.402 * cr;
    let green = y - 0.344_14 * cb - 0.714_14 * cr;
    let blue = y + 1.772 * cb;
    // A float to integer cast saturates: the clamp to a byte.
    [
        red.round() as u8,
        green.round() as u8,
        blue.round() as u8,
        255 - k,
    ]
}

/// Returns whether the scans end in an end-of-image marker. `zune-jpeg` doesn't insist on it and makes up the rest of a
/// truncated file.
fn reaches_end_of_image(bytes: &[u8]) -> bool {
    const END_OF_IMAGE: u8 = 0xd9;
    if bytes.ends_with(&[0xff, END_OF_IMAGE]) {
        return true;
    }
    // Something follows the picture (a second picture, padding) or it is cut: walk the markers from the start.
    let mut rest = bytes.get(2..).unwrap_or_default();
    while let Some(at) = rest.iter().position(|&byte| byte == 0xff) {
        rest = &rest[at + 1..];
        match rest {
            [END_OF_IMAGE, ..] => return true,
            // Fill bytes, stuffed bytes, restarts: no length follows.
            [0xff, ..] => {}
            [0x00 | 0x01 | 0xd0..=0xd7, tail @ ..] => rest = tail,
            [_, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                rest = rest.get(1 + length..).unwrap_or_default();
            }
            _ => return false,
        }
    }
    false
}
