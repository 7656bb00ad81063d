//! Decoded pixels, in the modes PIL keeps them in.

use super::ImageError;
use super::orientation::Orientation;

/// A decoded picture: at least one pixel, rows from the top, channels interleaved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    pixels: Pixels,
}

/// Pixels in the mode PIL would keep them in (its name in quotes), which decides how they are resized.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pixels {
    /// "L": one byte a pixel.
    Grey(Vec<u8>),
    /// "I;16": 16-bit grey. PIL converts it to RGB by clipping at 255, not by scaling, and so do we: almost every
    /// such picture comes out white. Convert 16-bit pictures to 8 bits before use.
    Grey16(Vec<u16>),
    /// "LA": grey, alpha. Resized premultiplied; the alpha is dropped in the end.
    GreyAlpha(Vec<u8>),
    /// "RGB": three bytes a pixel.
    Rgb(Vec<u8>),
    /// "RGBA": resized premultiplied; the alpha is dropped in the end, not blended with a background.
    Rgba(Vec<u8>),
    /// "CMYK": 0 is no ink. Resized in this mode, then converted to RGB without a colour profile.
    Cmyk(Vec<u8>),
    /// "P" and "1" with their colours already looked up, three bytes a pixel: resized by nearest neighbour.
    Palette(Vec<u8>),
}

impl Pixels {
    fn len(&self) -> usize {
        match self {
            Self::Grey16(values) => values.len(),
            Self::Grey(values) | Self::GreyAlpha(values) | Self::Rgb(values) => values.len(),
            Self::Rgba(values) | Self::Cmyk(values) | Self::Palette(values) => values.len(),
        }
    }

    pub(super) fn channels(&self) -> usize {
        match self {
            Self::Grey(_) | Self::Grey16(_) => 1,
            Self::GreyAlpha(_) => 2,
            Self::Rgb(_) | Self::Palette(_) => 3,
            Self::Rgba(_) | Self::Cmyk(_) => 4,
        }
    }

    /// Calls `put(i, rgb)` for each pixel `i`, in RGB as PIL's `convert("RGB")` makes it.
    fn for_each_rgb(&self, mut put: impl FnMut(usize, [u8; 3])) {
        match self {
            Self::Grey(values) => values.iter().enumerate().for_each(|(i, &v)| put(i, [v; 3])),
            Self::Grey16(values) => values
                .iter()
                .enumerate()
                .for_each(|(i, &v)| put(i, [v.min(255) as u8; 3])),
            Self::GreyAlpha(values) => {
                values
                    .as_chunks()
                    .0
                    .iter()
                    .enumerate()
                    .for_each(|(i, &[v, _])| put(i, [v; 3]));
            }
            Self::Rgb(values) | Self::Palette(values) => {
                values
                    .as_chunks()
                    .0
                    .iter()
                    .enumerate()
                    .for_each(|(i, &rgb)| put(i, rgb));
            }
            Self::Rgba(values) => {
                values
                    .as_chunks()
                    .0
                    .iter()
                    .enumerate()
                    .for_each(|(i, &[r, g, b, _])| put(i, [r, g, b]));
            }
            Self::Cmyk(values) => {
                values
                    .as_chunks()
                    .0
                    .iter()
                    .enumerate()
                    .for_each(|(i, &cmyk)| put(i, cmyk_to_rgb(cmyk)));
            }
        }
    }
}

/// Converts as PIL without a colour profile: (255 - K) - C (255 - K) / 255.
fn cmyk_to_rgb([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let light = 255 - k;
    [c, m, y].map(|ink| light.saturating_sub(multiply(ink, light)))
}

/// Returns a b / 255, rounded, in PIL's integer arithmetic.
pub(super) fn multiply(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    (((product >> 8) + product) >> 8) as u8
}

impl Picture {
    /// Makes a picture of pixels already in memory. Fails if it would be empty or the buffer's length does not fit.
    pub fn new(width: u32, height: u32, pixels: Pixels) -> Result<Self, ImageError> {
        let area = width as usize * height as usize;
        let expected = area.max(1) * pixels.channels();
        if area == 0 || pixels.len() != expected {
            return Err(ImageError::BufferLength {
                expected,
                actual: pixels.len(),
            });
        }
        Ok(Self {
            width,
            height,
            pixels,
        })
    }

    /// Returns the width in pixels, at least 1.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Returns the height in pixels, at least 1.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Returns the pixels, rows from the top, channels interleaved.
    pub fn pixels(&self) -> &Pixels {
        &self.pixels
    }

    /// Converts to RGB as PIL's `convert("RGB")` does: alpha dropped, palette looked up.
    pub fn into_rgb(self) -> Self {
        let pixels = match self.pixels {
            Pixels::Rgb(values) | Pixels::Palette(values) => values,
            other => {
                let mut rgb = vec![0; self.width as usize * self.height as usize * 3];
                let (out, _) = rgb.as_chunks_mut();
                other.for_each_rgb(|i, color| out[i] = color);
                rgb
            }
        };
        Self {
            pixels: Pixels::Rgb(pixels),
            ..self
        }
    }

    /// Converts to planes, the layout that image towers take.
    pub(super) fn to_planar(&self) -> PlanarRgb {
        let area = self.width as usize * self.height as usize;
        let mut data = vec![0; 3 * area];
        let (red, rest) = data.split_at_mut(area);
        let (green, blue) = rest.split_at_mut(area);
        self.pixels
            .for_each_rgb(|i, [r, g, b]| (red[i], green[i], blue[i]) = (r, g, b));
        PlanarRgb {
            width: self.width,
            height: self.height,
            data,
        }
    }

    /// Turns and mirrors the picture.
    pub(super) fn oriented(self, orientation: Orientation) -> Self {
        if orientation == Orientation::Upright {
            return self;
        }
        let size = (self.width as usize, self.height as usize);
        let pixels = match &self.pixels {
            Pixels::Grey(values) => Pixels::Grey(orientation.apply::<_, 1>(values, size)),
            Pixels::Grey16(values) => Pixels::Grey16(orientation.apply::<_, 1>(values, size)),
            Pixels::GreyAlpha(values) => Pixels::GreyAlpha(orientation.apply::<_, 2>(values, size)),
            Pixels::Rgb(values) => Pixels::Rgb(orientation.apply::<_, 3>(values, size)),
            Pixels::Rgba(values) => Pixels::Rgba(orientation.apply::<_, 4>(values, size)),
            Pixels::Cmyk(values) => Pixels::Cmyk(orientation.apply::<_, 4>(values, size)),
            Pixels::Palette(values) => Pixels::Palette(orientation.apply::<_, 3>(values, size)),
        };
        let (width, height) = match orientation.swaps_sides() {
            true => (self.height, self.width),
            false => (self.width, self.height),
        };
        Self {
            width,
            height,
            pixels,
        }
    }
}

/// RGB bytes as planes, `[3, height, width]`: the layout of a tower's input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanarRgb {
    width: u32,
    height: u32,
    data: Vec<u8>,
}

impl PlanarRgb {
    /// Returns the width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Returns the height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Returns the values, `[3, height, width]`, 0 to 255.
    pub fn as_bytes(&self) -> &[u8] {
        &self.data
    }

    /// Lays the picture into the middle of a square of this side and colour.
    pub(super) fn centred(&self, side: u32, fill: [u8; 3]) -> Self {
        let (width, height, size) = (self.width as usize, self.height as usize, side as usize);
        let (left, top) = ((size - width) / 2, (size - height) / 2);
        let mut data = Vec::with_capacity(3 * size * size);
        for (colour, plane) in fill.into_iter().zip(self.data.chunks_exact(width * height)) {
            let start = data.len();
            data.resize(start + size * size, colour);
            let rows = data[start..].chunks_exact_mut(size).skip(top);
            for (row, values) in rows.zip(plane.chunks_exact(width)) {
                row[left..left + width].copy_from_slice(values);
            }
        }
        Self {
            width: side,
            height: side,
            data,
        }
    }

    /// Returns the values, to be changed in place.
    pub(super) fn as_bytes_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }

    /// Writes the values divided by 255 (torchvision's `ToTensor`) into this picture's place in a batch,
    /// `[3, height, width]`. Fails if `out` does not hold exactly 3 x height x width values.
    pub fn write_unit_floats(&self, out: &mut [f32]) -> Result<(), ImageError> {
        if out.len() != self.data.len() {
            return Err(ImageError::BufferLength {
                expected: self.data.len(),
                actual: out.len(),
            });
        }
        for (float, &byte) in out.iter_mut().zip(&self.data) {
            *float = f32::from(byte) / 255.0;
        }
        Ok(())
    }
}
