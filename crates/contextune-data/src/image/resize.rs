//! PIL's `resize(..., BICUBIC)`, computing only the part of the result that is kept.

use std::borrow::Cow;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U8x3, U8x4};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use super::picture::multiply;
use super::{Picture, Pixels};

/// How far the cubic kernel reaches, in pixels of the smaller of source and result.
const KERNEL_RADIUS: f64 = 2.0;

/// From this many source pixels for one of the result on, the fast path is taken.
const FAST_FROM_SCALE: f64 = 1.5;

/// Binary places of the fixed-point weights: PIL's `PRECISION_BITS`.
const WEIGHT_BITS: u32 = 22;

/// A rectangle of whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rect {
    pub left: u32,
    pub top: u32,
    pub width: u32,
    pub height: u32,
}

/// Computes `picture.crop(source).resize(scaled, BICUBIC).crop(window)` in PIL's words; `source` lies inside the
/// picture and `window` inside `scaled`. Pixels outside `source` have no influence.
pub(super) fn resize(picture: &Picture, source: Rect, scaled: (u32, u32), window: Rect) -> Picture {
    let columns = Axis::new(
        source.left,
        source.width,
        scaled.0,
        window.left,
        window.width,
    );
    let rows = Axis::new(
        source.top,
        source.height,
        scaled.1,
        window.top,
        window.height,
    );
    let width = picture.width();
    let unscaled = (source.width, source.height) == scaled;

    let pixels = match picture.pixels() {
        // Both copy; PIL doesn't premultiply either when the size stays.
        Pixels::Palette(values) => Pixels::Palette(pick::<u8, 3>(values, width, &columns, &rows)),
        pixels if unscaled => crop(pixels, width, &columns, &rows),

        Pixels::Grey(values) => Pixels::Grey(bicubic::<U8, 1>(values, width, &columns, &rows)),
        Pixels::Rgb(values) => Pixels::Rgb(bicubic::<U8x3, 3>(values, width, &columns, &rows)),
        Pixels::Cmyk(values) => Pixels::Cmyk(bicubic::<U8x4, 4>(values, width, &columns, &rows)),
        Pixels::GreyAlpha(values) => {
            Pixels::GreyAlpha(with_alpha::<2>(values, width, &columns, &rows))
        }
        Pixels::Rgba(values) => Pixels::Rgba(with_alpha::<4>(values, width, &columns, &rows)),
        // PIL clips 16-bit grey at 255 only after the resize: a bright neighbour counts in full.
        Pixels::Grey16(values) => {
            let pixel = |x, y| [i64::from(values[y * width as usize + x])];
            let resized = bicubic_exact(pixel, i64::from(u16::MAX), &columns, &rows);
            Pixels::Grey16(resized.into_iter().map(|[value]| value as u16).collect())
        }
    };
    Picture::new(window.width, window.height, pixels).expect("every arm fills the window")
}

/// One axis of the way from a picture to the window.
struct Axis {
    /// Where the source region starts, in pixels of the picture, and its length.
    source: u32,
    source_length: u32,
    /// Pixels of the source region for one of the result.
    scale: f64,
    /// The part of the scaled region that is kept.
    window: u32,
    length: u32,
}

impl Axis {
    fn new(source: u32, source_length: u32, scaled: u32, window: u32, length: u32) -> Self {
        let scale = f64::from(source_length) / f64::from(scaled);
        Self {
            source,
            source_length,
            scale,
            window,
            length,
        }
    }

    /// Returns the window's start and length in pixels of the source region; rounding must not carry it outside.
    fn window_in_source(&self) -> (f64, f64) {
        let start = f64::from(self.window) * self.scale;
        let length = f64::from(self.length) * self.scale;
        (start, length.min(f64::from(self.source_length) - start))
    }

    /// Returns the pixels of the source region that the kernel reaches from the window: the first and how many.
    fn needed(&self) -> (u32, u32) {
        let (start, length) = self.window_in_source();
        let reach = KERNEL_RADIUS * self.scale.max(1.0) + 1.0;
        let first = (start - reach).max(0.0) as u32;
        let end = (start + length + reach).ceil() as u32;
        (first, end.min(self.source_length) - first)
    }

    /// Returns for each pixel of the window the first pixel of the source region that counts, and the weights from
    /// there.
    fn weights(&self) -> Vec<(usize, Vec<i64>)> {
        let stretch = self.scale.max(1.0);
        let reach = KERNEL_RADIUS * stretch;
        let of_pixel = |i: u32| {
            let centre = (f64::from(i) + 0.5) * self.scale;
            let first = (centre - reach + 0.5).max(0.0) as u32;
            let end = ((centre + reach + 0.5) as u32).min(self.source_length);
            let weights = (first..end)
                .map(|x| cubic((f64::from(x) - centre + 0.5) / stretch))
                .collect::<Vec<_>>();
            let unit = f64::from(1 << WEIGHT_BITS) / weights.iter().sum::<f64>();
            (
                first as usize,
                weights
                    .iter()
                    .map(|weight| (weight * unit).round() as i64)
                    .collect(),
            )
        };
        (self.window..self.window + self.length)
            .map(of_pixel)
            .collect()
    }

    /// Returns the pixel of the picture nearest to each one in the window. PIL adds up the scale step by step, so that
    /// ties fall as the rounding errors do: so do we.
    fn nearest(&self) -> Vec<usize> {
        let mut position = self.scale * 0.5;
        let mut picked = Vec::with_capacity(self.length as usize);
        for i in 0..self.window + self.length {
            if i >= self.window {
                picked.push((self.source + (position as u32).min(self.source_length - 1)) as usize);
            }
            position += self.scale;
        }
        picked
    }
}

/// Resizes pixels of `N` like channels; `values` are the picture's, `width` pixels a row.
fn bicubic<P: PixelTrait, const N: usize>(
    values: &[u8],
    width: u32,
    columns: &Axis,
    rows: &Axis,
) -> Vec<u8> {
    // Near scale 1 and below, a weight is about 1 and hands the first pass's differences on: with the fast path's
    // coarser weights a few values in a million would be two levels off. Such pictures are small, so exact is cheap.
    if columns.scale.min(rows.scale) >= FAST_FROM_SCALE {
        return bicubic_fast::<P>(values, width, columns, rows);
    }
    let (pixels, _) = values.as_chunks::<N>();
    let pixel = |x: usize, y: usize| pixels[y * width as usize + x].map(i64::from);
    bicubic_exact(pixel, 255, columns, rows)
        .into_iter()
        .flat_map(|pixel| pixel.map(|value| value as u8))
        .collect()
}

/// Applies the Catmull-Rom kernel (a = -0.5, PIL's BICUBIC) with weights of 16 bits, by SIMD: within one level of PIL.
///
/// PIL goes along the rows first; where the kernel overshoots, the order shows by tens of levels, and
/// `fast_image_resize` in one call goes along the columns first: hence one call a pass.
fn bicubic_fast<P: PixelTrait>(values: &[u8], width: u32, columns: &Axis, rows: &Axis) -> Vec<u8> {
    let (first, count) = rows.needed();
    let source = band::<P>(values, width, columns, rows.source + first, count);
    let source_size = (columns.source_length, count);
    let (left, length) = columns.window_in_source();
    let narrowed = pass::<P>(
        &source,
        source_size,
        (columns.length, count),
        (left, length),
        (0.0, f64::from(count)),
    );
    let (top, height) = rows.window_in_source();
    let whole_width = (0.0, f64::from(columns.length));
    let whole_height = (top - f64::from(first), height);
    pass::<P>(
        &narrowed,
        (columns.length, count),
        (columns.length, rows.length),
        whole_width,
        whole_height,
    )
}

/// Returns the rows `first..first + count` of the source region, so that no pass can see a pixel outside of it.
fn band<'a, P: PixelTrait>(
    values: &'a [u8],
    width: u32,
    columns: &Axis,
    first: u32,
    count: u32,
) -> Cow<'a, [u8]> {
    let pixel = size_of::<P>();
    let row = width as usize * pixel;
    let rows = &values[first as usize * row..][..count as usize * row];
    if columns.source_length == width {
        return Cow::Borrowed(rows);
    }
    let start = columns.source as usize * pixel;
    let length = columns.source_length as usize * pixel;
    Cow::Owned(
        rows.chunks_exact(row)
            .flat_map(|row| &row[start..start + length])
            .copied()
            .collect(),
    )
}

/// Calls `fast_image_resize`, from a rectangle of `source` given as (start, length) on each axis. The typed
/// call: the untyped one would compile the resizer for thirteen kinds of pixel.
fn pass<P: PixelTrait>(
    source: &[u8],
    (width, height): (u32, u32),
    (out_width, out_height): (u32, u32),
    (left, crop_width): (f64, f64),
    (top, crop_height): (f64, f64),
) -> Vec<u8> {
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom))
        .crop(left, top, crop_width, crop_height)
        .use_alpha(false);
    let mut out = vec![0; out_width as usize * out_height as usize * size_of::<P>()];
    let source =
        TypedImageRef::<P>::from_buffer(width, height, source).expect("a band fills its buffer");
    let mut target = TypedImage::<P>::from_buffer(out_width, out_height, &mut out)
        .expect("the buffer was made for it");
    Resizer::new()
        .resize_typed(&source, &mut target, &options)
        .expect("the window lies inside the source");
    out
}

/// Resizes with colours multiplied by alpha, the last of `N` channels ("La" and "RGBa" in PIL), and divides
/// afterwards, which enlarges any difference where alpha is small: hence bit for bit.
fn with_alpha<const N: usize>(values: &[u8], width: u32, columns: &Axis, rows: &Axis) -> Vec<u8> {
    let pixels = values.as_chunks::<N>().0;
    let premultiplied = |x: usize, y: usize| {
        let pixel = pixels[y * width as usize + x];
        let alpha = pixel[N - 1];
        std::array::from_fn(|c| {
            i64::from(if c == N - 1 {
                alpha
            } else {
                multiply(pixel[c], alpha)
            })
        })
    };
    let divided = |pixel: [i64; N]| {
        let alpha = pixel[N - 1];
        // Rounded down, as PIL does.
        let divide = |value: i64| {
            if alpha == 0 || alpha == 255 {
                value
            } else {
                (255 * value / alpha).min(255)
            }
        };
        std::array::from_fn::<u8, N, _>(|c| {
            if c == N - 1 {
                alpha as u8
            } else {
                divide(pixel[c]) as u8
            }
        })
    };
    bicubic_exact(premultiplied, 255, columns, rows)
        .into_iter()
        .flat_map(divided)
        .collect()
}

/// Resizes as PIL's `ImagingResample`, bit for bit, some twenty times slower: `pixel(x, y)` of the picture in, the
/// window's pixels out, every value rounded and clamped to 0 ..= `max` after each pass.
fn bicubic_exact<const N: usize>(
    pixel: impl Fn(usize, usize) -> [i64; N],
    max: i64,
    columns: &Axis,
    rows: &Axis,
) -> Vec<[i64; N]> {
    let weigh = |weights: &[i64], pixel: &dyn Fn(usize) -> [i64; N]| {
        let mut sums = [1 << (WEIGHT_BITS - 1); N];
        for (i, weight) in weights.iter().enumerate() {
            sums.iter_mut()
                .zip(pixel(i))
                .for_each(|(sum, value)| *sum += weight * value);
        }
        sums.map(|sum| (sum >> WEIGHT_BITS).clamp(0, max))
    };
    let (column_weights, row_weights) = (columns.weights(), rows.weights());
    let (first, count) = rows.needed();
    let top = (rows.source + first) as usize;
    let narrowed: Vec<[i64; N]> = (top..top + count as usize)
        .flat_map(|y| {
            column_weights
                .iter()
                .map(move |(x, weights)| (y, x, weights))
        })
        .map(|(y, x, weights)| weigh(weights, &|i| pixel(columns.source as usize + x + i, y)))
        .collect();
    row_weights
        .iter()
        .flat_map(|(y, weights)| {
            (0..column_weights.len()).map(move |x| (x, y - first as usize, weights))
        })
        .map(|(x, y, weights)| weigh(weights, &|i| narrowed[(y + i) * column_weights.len() + x]))
        .collect()
}

/// Evaluates the kernel of PIL's BICUBIC: Keys' cubic with a = -0.5.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    match x.abs() {
        x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        x if x < KERNEL_RADIUS => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        _ => 0.0,
    }
}

fn crop(pixels: &Pixels, width: u32, columns: &Axis, rows: &Axis) -> Pixels {
    match pixels {
        Pixels::Grey(values) => Pixels::Grey(pick::<u8, 1>(values, width, columns, rows)),
        Pixels::Grey16(values) => Pixels::Grey16(pick::<u16, 1>(values, width, columns, rows)),
        Pixels::GreyAlpha(values) => Pixels::GreyAlpha(pick::<u8, 2>(values, width, columns, rows)),
        Pixels::Rgb(values) => Pixels::Rgb(pick::<u8, 3>(values, width, columns, rows)),
        Pixels::Rgba(values) => Pixels::Rgba(pick::<u8, 4>(values, width, columns, rows)),
        Pixels::Cmyk(values) => Pixels::Cmyk(pick::<u8, 4>(values, width, columns, rows)),
        Pixels::Palette(values) => Pixels::Palette(pick::<u8, 3>(values, width, columns, rows)),
    }
}

/// Picks the nearest neighbour; a plain copy at scale 1.
fn pick<T: Copy, const N: usize>(values: &[T], width: u32, columns: &Axis, rows: &Axis) -> Vec<T> {
    let (pixels, _) = values.as_chunks::<N>();
    let from_columns = columns.nearest();
    let mut out = Vec::with_capacity(N * columns.length as usize * rows.length as usize);
    for y in rows.nearest() {
        let row = &pixels[y * width as usize..][..width as usize];
        for &x in &from_columns {
            out.extend_from_slice(&row[x]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// The fixed-point passes over what the window needs, against the exact ones over everything.
        #[test]
        fn fast_path_stays_within_one_level(
            (width, height) in (2_u32..60, 2_u32..60),
            shrink in prop::array::uniform2(FAST_FROM_SCALE..20.0),
            parts in prop::array::uniform8(0.0..1.0_f64),
            values in prop::collection::vec(any::<u8>(), 60 * 60),
        ) {
            // A part of `length` that is at least `least` long.
            let span = |length: u32, least: u32, at: f64, share: f64| {
                let start = (at * f64::from(length - least + 1)) as u32;
                (start, least + (share * f64::from(length - start - least + 1)) as u32)
            };
            let values = &values[..(width * height) as usize];
            let (left, source_width) = span(width, 2, parts[0], parts[1]);
            let (top, source_height) = span(height, 2, parts[2], parts[3]);
            let scaled_width = (f64::from(source_width) / shrink[0]).max(1.0) as u32;
            let scaled_height = (f64::from(source_height) / shrink[1]).max(1.0) as u32;
            let (window_left, window_width) = span(scaled_width, 1, parts[4], parts[5]);
            let (window_top, window_height) = span(scaled_height, 1, parts[6], parts[7]);

            let columns = Axis::new(left, source_width, scaled_width, window_left, window_width);
            let rows = Axis::new(top, source_height, scaled_height, window_top, window_height);
            let fast = bicubic_fast::<U8>(values, width, &columns, &rows);

            let columns = Axis::new(left, source_width, scaled_width, 0, scaled_width);
            let rows = Axis::new(top, source_height, scaled_height, 0, scaled_height);
            let pixel = |x, y| [i64::from(values[y * width as usize + x])];
            let exact = bicubic_exact(pixel, 255, &columns, &rows);
            for (i, fast) in fast.into_iter().enumerate() {
                let (x, y) = (i as u32 % window_width, i as u32 / window_width);
                let [exact] = exact[((window_top + y) * scaled_width + window_left + x) as usize];
                prop_assert!((i64::from(fast) - exact).abs() <= 1, "({x}, {y}): {fast} for {exact}");
            }
        }
    }
}
