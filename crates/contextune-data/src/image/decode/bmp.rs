//! BMP as PIL's `BmpImagePlugin` reads it, in the modes that it chooses. Palettes of black and white with more than one bit a pixel,
//! and grey ramps of four bits, which it garbles, come out as the file says.

use super::decoded::{Decoded, damaged, is_grey_ramp, look_up, unpack};
use super::options::DecodeOptions;
use crate::image::{Format, ImageError, Pixels};

/// Bytes of the file's own header; the picture's follows.
const FILE_HEADER: usize = 14;
/// Bytes of OS/2's header, which has sizes of 16 bits and palettes without padding.
const CORE_HEADER: usize = 12;

/// How pixels are stored: the header's "compression".
const UNCOMPRESSED: u32 = 0;
const RUNS_OF_8_BITS: u32 = 1;
const RUNS_OF_4_BITS: u32 = 2;
const BIT_FIELDS: u32 = 3;

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, ImageError> {
    let header = Header::read(bytes)?;
    let (width, height) = (header.width, header.height);
    options.check_size(Format::Bmp, width, height)?;
    let pixels = match header.bits {
        1 | 4 | 8 => header.palette_pixels(bytes)?,
        16 | 24 | 32 => header.true_colours(bytes)?,
        bits => return Err(damaged(Format::Bmp, format!("it has {bits} bits a pixel"))),
    };
    Ok(Decoded {
        width,
        height,
        pixels,
        exif: None,
    })
}

/// What is known before the pixels.
struct Header {
    width: u32,
    height: u32,
    top_down: bool,
    bits: u16,
    compression: u32,
    /// Where the palette begins, its number of colours and bytes of each.
    palette: usize,
    colours: usize,
    colour_size: usize,
    /// Bits of red, green, blue and alpha in a pixel, if the file says.
    masks: Option<[u32; 4]>,
    /// Where the pixels begin.
    pixels: usize,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        let size = number(bytes, FILE_HEADER)? as usize;
        let at = |offset: usize| number(bytes, FILE_HEADER + offset);
        let half = |offset: usize| Ok::<_, ImageError>(at(offset)? as u16);
        let end = FILE_HEADER + size;
        let mut header = match size {
            CORE_HEADER => Self {
                width: half(4)?.into(),
                height: half(6)?.into(),
                top_down: false,
                bits: half(10)?,
                compression: UNCOMPRESSED,
                palette: end,
                colours: 0,
                colour_size: 3,
                masks: None,
                pixels: 0,
            },
            40 | 52 | 56 | 64 | 108 | 124 => {
                // A negative height says that the first row is the upper one.
                let (height, top_down) = match at(8)? {
                    height if height >> 24 == 0xff => (height.wrapping_neg(), true),
                    height => (height, false),
                };
                Self {
                    width: at(4)?,
                    height,
                    top_down,
                    bits: half(14)?,
                    compression: at(16)?,
                    palette: end,
                    colours: at(32)? as usize,
                    colour_size: 4,
                    masks: None,
                    pixels: 0,
                }
            }
            size => {
                let reason = format!("its header of {size} bytes is of an unknown kind");
                return Err(damaged(Format::Bmp, reason));
            }
        };
        if header.compression == BIT_FIELDS {
            let alpha = if size >= 56 { at(52)? } else { 0 };
            header.masks = Some([at(40)?, at(44)?, at(48)?, alpha]);
            if size == 40 {
                header.palette += 12; // the masks come after the header
            }
        }
        if header.colours == 0 && header.bits <= 8 {
            header.colours = 1 << header.bits;
        }
        let palette_size = match header.bits {
            0..=8 => header.colours.saturating_mul(header.colour_size),
            _ => 0,
        };
        header.pixels = match number(bytes, 10)? as usize {
            // Some writers give the place of the palette for that of the pixels.
            given if given == end && header.bits <= 8 => end.saturating_add(palette_size),
            0 => header.palette.saturating_add(palette_size),
            given => given,
        };
        Ok(header)
    }

    /// Reads one index a pixel and looks the colours up.
    fn palette_pixels(&self, bytes: &[u8]) -> Result<Pixels, ImageError> {
        if self.colours > 1 << 16 {
            let reason = format!("its palette has {} colours", self.colours);
            return Err(damaged(Format::Bmp, reason));
        }
        let palette: Vec<u8> = bytes
            .get(self.palette..)
            .unwrap_or_default()
            .chunks_exact(self.colour_size)
            .take(self.colours)
            .flat_map(|colour| [colour[2], colour[1], colour[0]])
            .collect();
        let indices = match self.compression {
            UNCOMPRESSED => self.packed_indices(bytes)?,
            RUNS_OF_8_BITS => self.runs(bytes, false)?,
            RUNS_OF_4_BITS => self.runs(bytes, true)?,
            other => return Err(unknown_compression(other)),
        };
        let is_complete = palette.len() == 3 * self.colours;
        Ok(
            if is_complete && self.colours > 2 && is_grey_ramp(&palette) {
                Pixels::Grey(indices)
            } else {
                Pixels::Palette(look_up(indices.into_iter(), &palette))
            },
        )
    }

    /// Reads indices of 1, 4 or 8 bits, packed from the high bit down.
    fn packed_indices(&self, bytes: &[u8]) -> Result<Vec<u8>, ImageError> {
        let width = self.width as usize;
        let rows = self.rows(bytes)?;
        let mut indices = Vec::with_capacity(width * self.height as usize);
        for row in rows {
            indices.extend(unpack(row, self.bits as u8, width));
        }
        Ok(indices)
    }

    /// Reads runs of indices, two to a byte where they have 4 bits.
    fn runs(&self, bytes: &[u8], halves: bool) -> Result<Vec<u8>, ImageError> {
        let width = self.width as usize;
        let all = width * self.height as usize;
        let mut indices = Vec::with_capacity(all);
        let mut at = self.pixels;
        let mut x = 0;
        let pair = |byte: u8| {
            if halves {
                [byte >> 4, byte & 0x0f]
            } else {
                [byte; 2]
            }
        };
        while indices.len() < all
            && let Some(&[count, value]) = bytes.get(at..at + 2)
        {
            at += 2;
            match (count, value) {
                (0, 0) => {
                    indices.resize(indices.len().next_multiple_of(width), 0); // end of the line
                    x = 0;
                }
                (0, 1) => break, // end of the picture
                (0, 2) => {
                    let Some(&[right, up]) = bytes.get(at..at + 2) else {
                        break;
                    };
                    at += 2;
                    let skipped = usize::from(right) + usize::from(up) * width;
                    indices.resize((indices.len() + skipped).min(all), 0);
                    x = indices.len() % width;
                }
                (0, count) => {
                    let kept = usize::from(count).min(all - indices.len());
                    let size = if halves { kept.div_ceil(2) } else { kept };
                    let Some(stored) = bytes.get(at..at + size) else {
                        break;
                    };
                    at += size;
                    match halves {
                        true => {
                            indices.extend(stored.iter().flat_map(|byte| pair(*byte)).take(kept))
                        }
                        false => indices.extend(stored),
                    }
                    x += usize::from(count);
                    at += at % 2;
                }
                (count, value) => {
                    let count = usize::from(count).min(width.saturating_sub(x));
                    indices.extend(pair(value).into_iter().cycle().take(count));
                    x += count;
                }
            }
        }
        indices.truncate(all);
        if indices.len() < all {
            return Err(damaged(Format::Bmp, "its runs end before the picture does"));
        }
        Ok(match self.top_down {
            true => indices,
            false => indices.chunks(width).rev().flatten().copied().collect(),
        })
    }

    /// Reads pixels of 16, 24 or 32 bits.
    fn true_colours(&self, bytes: &[u8]) -> Result<Pixels, ImageError> {
        let width = self.width as usize;
        let layout = match (self.compression, self.masks) {
            (UNCOMPRESSED, _) => Layout::usual(self.bits),
            (BIT_FIELDS, Some(masks)) => Layout::of_masks(self.bits, masks)?,
            (other, _) => return Err(unknown_compression(other)),
        };
        let rows = self.rows(bytes)?;
        let mut values = Vec::with_capacity(4 * width * self.height as usize);
        for row in rows {
            match layout {
                Layout::Bytes { places, size } => values.extend(
                    row.chunks_exact(size)
                        .take(width)
                        .flat_map(|pixel| places.map(|place| pixel[place])),
                ),
                Layout::Alpha(places) => values.extend(
                    row.as_chunks::<4>()
                        .0
                        .iter()
                        .flat_map(|pixel| places.map(|place| pixel[place])),
                ),
                Layout::Bits { green } => {
                    values.extend(row.as_chunks().0.iter().flat_map(|pair| {
                        let pixel = u32::from(u16::from_le_bytes(*pair));
                        // n bits become 8 by v 255 / (2^n - 1), rounded down.
                        let widened = |shift: u32, depth: u32| {
                            let most = (1 << depth) - 1;
                            (((pixel >> shift) & most) * 255 / most) as u8
                        };
                        [widened(5 + green, 5), widened(5, green), widened(0, 5)]
                    }))
                }
            }
        }
        Ok(match layout {
            Layout::Alpha(_) => Pixels::Rgba(values),
            _ => Pixels::Rgb(values),
        })
    }

    /// Returns the rows from the top, without the padding that brings each to a multiple of four bytes.
    fn rows<'a>(&self, bytes: &'a [u8]) -> Result<impl Iterator<Item = &'a [u8]>, ImageError> {
        let (height, bits) = (
            self.height as usize,
            self.width as usize * usize::from(self.bits),
        );
        let (length, stride) = (bits.div_ceil(8), bits.div_ceil(32) * 4);
        let stored = bytes.get(self.pixels..).unwrap_or_default();
        if stored.len() < (height - 1) * stride + length {
            return Err(damaged(Format::Bmp, "it is cut short"));
        }
        let top_down = self.top_down;
        Ok((0..height).map(move |y| {
            let row = if top_down { y } else { height - 1 - y };
            &stored[row * stride..][..length]
        }))
    }
}

/// Where a pixel keeps its colours.
enum Layout {
    /// Red, green and blue at these places among so many bytes.
    Bytes { places: [usize; 3], size: usize },
    /// Red, green, blue and alpha at these places of four bytes.
    Alpha([usize; 4]),
    /// 16 bits: five of red, so many of green, five of blue.
    Bits { green: u32 },
}

impl Layout {
    /// The layout of pixels without masks.
    fn usual(bits: u16) -> Self {
        match bits {
            16 => Self::Bits { green: 5 },
            bits => Self::Bytes {
                places: [2, 1, 0],
                size: usize::from(bits / 8),
            },
        }
    }

    /// The layouts that PIL knows.
    fn of_masks(bits: u16, masks: [u32; 4]) -> Result<Self, ImageError> {
        const B0: u32 = 0xff;
        const B1: u32 = 0xff00;
        const B2: u32 = 0xff_0000;
        const B3: u32 = 0xff00_0000;
        let [red, green, blue, alpha] = masks;
        Ok(match (bits, [red, green, blue], alpha) {
            (16, [0xf800, 0x07e0, 0x001f], _) => Self::Bits { green: 6 },
            (16, [0x7c00, 0x03e0, 0x001f], _) => Self::Bits { green: 5 },
            (24, [B2, B1, B0], _) => Self::usual(24),
            (32, [B2, B1, B0], 0) => Self::usual(32),
            (32, [B3, B2, B1], 0) => Self::Bytes {
                places: [3, 2, 1],
                size: 4,
            },
            (32, [B3, B1, B0], 0) => Self::Bytes {
                places: [3, 1, 0],
                size: 4,
            },
            (32, [B3, B2, B1], B0) => Self::Alpha([3, 2, 1, 0]),
            (32, [B0, B1, B2], B3) => Self::Alpha([0, 1, 2, 3]),
            (32, [B2, B1, B0], B3) | (32, [0, 0, 0], 0) => Self::Alpha([2, 1, 0, 3]),
            (32, [B3, B1, B0], B2) => Self::Alpha([3, 1, 0, 2]),
            _ => {
                let reason = format!("masks {masks:x?} of {bits} bits are of no known layout");
                return Err(damaged(Format::Bmp, reason));
            }
        })
    }
}

fn unknown_compression(number: u32) -> ImageError {
    damaged(
        Format::Bmp,
        format!("its pixels are stored in a way that is not read ({number})"),
    )
}

/// Returns the little-endian number at a place in the headers.
fn number(bytes: &[u8], at: usize) -> Result<u32, ImageError> {
    bytes
        .get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u32::from_le_bytes)
        .ok_or_else(|| damaged(Format::Bmp, "its header is cut short"))
}
