//! BMP through the `image` crate, with the mode PIL's `BmpImagePlugin` would choose.

use std::io::Cursor;

use ::image::codecs::bmp::BmpDecoder;
use ::image::{ColorType, ImageDecoder};

use super::decoded::{Decoded, damaged};
use super::options::DecodeOptions;
use crate::image::{Format, ImageError, Pixels};

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, ImageError> {
    let decoder =
        BmpDecoder::new(Cursor::new(bytes)).map_err(|error| damaged(Format::Bmp, error))?;
    let (width, height) = decoder.dimensions();
    options.check_size(Format::Bmp, width, height)?;
    let palette = decoder.get_palette().map(<[_]>::to_vec);
    let has_alpha = decoder.color_type() == ColorType::Rgba8;
    let channels = if has_alpha { 4 } else { 3 };
    let mut data = vec![0; width as usize * height as usize * channels];
    decoder
        .read_image(&mut data)
        .map_err(|error| damaged(Format::Bmp, error))?;

    let pixels = match palette {
        _ if has_alpha => Pixels::Rgba(data),
        Some(palette) if is_grey_ramp(&palette, colors_used(bytes)) => {
            Pixels::Grey(data.iter().step_by(3).copied().collect())
        }
        Some(_) => Pixels::Palette(data),
        None => {
            if let Some(depths) = depths_of_16_bits(bytes) {
                requantise(&mut data, depths);
            }
            Pixels::Rgb(data)
        }
    };
    Ok(Decoded {
        width,
        height,
        pixels,
        exif: None,
    })
}

/// Returns whether PIL reads a palette as plain grey: it counts 0, 1, 2, ...; one of two colours stays bilevel.
fn is_grey_ramp(palette: &[[u8; 3]], colors: usize) -> bool {
    colors != 2
        && palette
            .iter()
            .take(colors)
            .enumerate()
            .all(|(i, &color)| color == [i as u8; 3])
}

/// Returns the number of palette entries: from the header, or all that the bit depth allows.
fn colors_used(bytes: &[u8]) -> usize {
    match field(bytes, 46) {
        colors if colors > 0 && !has_core_header(bytes) => colors as usize,
        _ => 1 << bits_a_pixel(bytes).min(8),
    }
}

/// Returns the bits of red, green and blue in a 16-bit picture: 5, 5, 5 unless masks say otherwise.
fn depths_of_16_bits(bytes: &[u8]) -> Option<[u32; 3]> {
    const BIT_FIELDS: u32 = 3;
    let has_masks = !has_core_header(bytes) && field(bytes, 30) == BIT_FIELDS;
    let depths = if has_masks {
        [54, 58, 62].map(|at| field(bytes, at).count_ones())
    } else {
        [5; 3]
    };
    (bits_a_pixel(bytes) == 16 && depths.iter().all(|depth| (1..=8).contains(depth)))
        .then_some(depths)
}

/// Widens as PIL does, n bits to 8 by v 255 / (2^n - 1), rounded down; the decoder rounded to the nearest.
fn requantise(data: &mut [u8], depths: [u32; 3]) {
    for pixel in data.as_chunks_mut::<3>().0 {
        for (value, depth) in pixel.iter_mut().zip(depths) {
            let most = (1 << depth) - 1;
            let stored = (u32::from(*value) * most + 127) / 255;
            *value = (stored * 255 / most) as u8;
        }
    }
}

fn has_core_header(bytes: &[u8]) -> bool {
    field(bytes, 14) == 12
}

fn bits_a_pixel(bytes: &[u8]) -> u32 {
    field(bytes, if has_core_header(bytes) { 24 } else { 28 }) & 0xffff
}

/// Returns the little-endian number at a place in the headers; 0 beyond the end.
fn field(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}
