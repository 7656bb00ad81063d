//! What the decoder of each format returns.

use std::fmt;

use crate::image::{Format, ImageError, Pixels};

/// What a format's decoder hands back.
pub(super) struct Decoded {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) pixels: Pixels,
    /// The EXIF block (a TIFF structure), where the format has one.
    pub(super) exif: Option<Vec<u8>>,
}

/// Says why a file of this format cannot be decoded.
pub(super) fn damaged(format: Format, reason: impl fmt::Display) -> ImageError {
    ImageError::Damaged {
        format,
        reason: reason.to_string(),
    }
}

/// Unpacks a row of `width` samples of `bits` bits, 1 to 8, packed from the high bit down.
pub(super) fn unpack(row: &[u8], bits: u8, width: usize) -> impl Iterator<Item = u8> {
    let bits = usize::from(bits.clamp(1, 8));
    let per_byte = 8 / bits;
    let mask = 0xff >> (8 - bits);
    (0..width).map(move |x| {
        let shift = (per_byte - 1 - x % per_byte) * bits;
        (row[x / per_byte] >> shift) & mask
    })
}

/// Returns whether a palette of RGB triples counts 0, 1, 2, …, and so is none: PIL reads the indices as grey.
pub(super) fn is_grey_ramp(palette: &[u8]) -> bool {
    let mut colours = palette.as_chunks::<3>().0.iter().enumerate();
    colours.all(|(i, &colour)| colour == [i as u8; 3])
}

/// Looks indices up in a palette of RGB triples; PIL pads short palettes with black.
pub(super) fn look_up(indices: impl Iterator<Item = u8>, palette: &[u8]) -> Vec<u8> {
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
