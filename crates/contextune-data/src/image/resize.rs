//! PIL's `resize` bit for bit, computing only the part of the result that is kept.

use std::borrow::Cow;

use contextune_kernel::resample::{Taps, WEIGHT_BITS, along_columns, along_rows};

use super::picture::multiply;
use super::{Filter, Picture, Pixels};

/// A rectangle of whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rect {
    pub left: u32,
    pub top: u32,
    pub width: u32,
    pub height: u32,
}

/// Computes `picture.crop(source).resize(scaled, filter).crop(window)` in PIL's words; `source` lies inside the
/// picture and `window` inside `scaled`. Pixels outside `source` have no influence.
pub(super) fn resize(
    picture: &Picture,
    source: Rect,
    scaled: (u32, u32),
    window: Rect,
    filter: Filter,
) -> Picture {
    let columns = Axis::new(
        source.left,
        source.width,
        scaled.0,
        window.left,
        window.width,
        filter,
    );
    let rows = Axis::new(
        source.top,
        source.height,
        scaled.1,
        window.top,
        window.height,
        filter,
    );
    let width = picture.width();
    let unscaled = (source.width, source.height) == scaled;

    let pixels = match picture.pixels() {
        // Both copy; PIL doesn't premultiply either when the size stays.
        Pixels::Palette(values) => Pixels::Palette(pick::<u8, 3>(values, width, &columns, &rows)),
        pixels if unscaled || filter == Filter::Nearest => crop(pixels, width, &columns, &rows),

        Pixels::Grey(values) => Pixels::Grey(convolved::<1>(values, width, &columns, &rows)),
        Pixels::Rgb(values) => Pixels::Rgb(convolved::<3>(values, width, &columns, &rows)),
        Pixels::Cmyk(values) => Pixels::Cmyk(convolved::<4>(values, width, &columns, &rows)),
        Pixels::GreyAlpha(values) => {
            Pixels::GreyAlpha(with_alpha::<2>(values, width, &columns, &rows))
        }
        Pixels::Rgba(values) => Pixels::Rgba(with_alpha::<4>(values, width, &columns, &rows)),
        Pixels::Grey16(values) => Pixels::Grey16(convolved_16(values, width, &columns, &rows)),
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
    filter: Filter,
}

impl Axis {
    fn new(
        source: u32,
        source_length: u32,
        scaled: u32,
        window: u32,
        length: u32,
        filter: Filter,
    ) -> Self {
        let scale = f64::from(source_length) / f64::from(scaled);
        Self {
            source,
            source_length,
            scale,
            window,
            length,
            filter,
        }
    }

    /// Returns the pixels of the source region that count: the first and how many; and for each pixel of the window the
    /// first that counts, from there on, and the weights.
    fn taps(&self) -> (u32, u32, Taps) {
        let weights = self.weights();
        let first = weights.iter().map(|(first, _)| *first).min().unwrap_or(0);
        let ends = weights.iter().map(|(first, weights)| first + weights.len());
        let count = ends.max().unwrap_or(first) - first;
        let mut taps = Taps::default();
        for (start, weights) in weights {
            // Pillow rounds halves away from zero.
            let fixed = |weight: f64| (weight * f64::from(1 << WEIGHT_BITS)).round() as i32;
            taps.push(start - first, weights.into_iter().map(fixed));
        }
        (first as u32, count as u32, taps)
    }

    /// Returns for each pixel of the window the first pixel of the source region that counts, and the weights from there,
    /// which add up to 1.
    fn weights(&self) -> Vec<(usize, Vec<f64>)> {
        let stretch = self.scale.max(1.0);
        let reach = self.filter.radius() * stretch;
        let of_pixel = |i: u32| {
            let centre = (f64::from(i) + 0.5) * self.scale;
            let first = (centre - reach + 0.5).max(0.0) as u32;
            let end = ((centre + reach + 0.5) as u32).min(self.source_length);
            let weights: Vec<f64> = (first..end)
                .map(|x| {
                    self.filter
                        .weight((f64::from(x) - centre + 0.5) * (1.0 / stretch))
                })
                .collect();
            let sum: f64 = weights.iter().sum();
            let weights = weights.iter().map(|weight| weight / sum).collect();
            (first as usize, weights)
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

/// Resizes pixels of `N` like channels; `values` are the picture's, `width` pixels a row. PIL goes along the rows first.
fn convolved<const N: usize>(values: &[u8], width: u32, columns: &Axis, rows: &Axis) -> Vec<u8> {
    let (left, across, column_taps) = columns.taps();
    let (top, down, row_taps) = rows.taps();
    let source = part::<N>(
        values,
        width,
        Rect {
            left: columns.source + left,
            top: rows.source + top,
            width: across,
            height: down,
        },
    );
    let length = columns.length as usize * N;
    let mut narrowed = vec![0; down as usize * length];
    along_rows::<N>(&source, across as usize, &column_taps, &mut narrowed);
    let mut out = vec![0; rows.length as usize * length];
    along_columns(&narrowed, length, &row_taps, &mut out);
    out
}

/// Returns a part of a picture's pixels; whole rows are not copied.
fn part<const N: usize>(values: &[u8], width: u32, part: Rect) -> Cow<'_, [u8]> {
    let row = width as usize * N;
    let rows = &values[part.top as usize * row..][..part.height as usize * row];
    if part.width == width {
        return Cow::Borrowed(rows);
    }
    let start = part.left as usize * N;
    let length = part.width as usize * N;
    Cow::Owned(
        rows.chunks_exact(row)
            .flat_map(|row| &row[start..start + length])
            .copied()
            .collect(),
    )
}

/// Resizes with colours multiplied by alpha, the last of `N` channels ("La" and "RGBa" in PIL), and divides afterwards.
fn with_alpha<const N: usize>(values: &[u8], width: u32, columns: &Axis, rows: &Axis) -> Vec<u8> {
    let mut premultiplied = values.to_vec();
    for pixel in premultiplied.as_chunks_mut::<N>().0 {
        let alpha = pixel[N - 1];
        for value in &mut pixel[..N - 1] {
            *value = multiply(*value, alpha);
        }
    }
    let mut resized = convolved::<N>(&premultiplied, width, columns, rows);
    for pixel in resized.as_chunks_mut::<N>().0 {
        let alpha = pixel[N - 1];
        if alpha == 0 || alpha == 255 {
            continue;
        }
        for value in &mut pixel[..N - 1] {
            // Rounded down, as PIL does.
            *value = (255 * u32::from(*value) / u32::from(alpha)).min(255) as u8;
        }
    }
    resized
}

/// Resizes 16-bit grey. PIL clips it at 255 only after the resize: a bright neighbour counts in full.
fn convolved_16(values: &[u16], width: u32, columns: &Axis, rows: &Axis) -> Vec<u16> {
    let (column_weights, row_weights) = (columns.weights(), rows.weights());
    let weigh = |weights: &[f64], value: &dyn Fn(usize) -> u16| {
        let products = weights.iter().enumerate();
        let sum: f64 = products
            .map(|(i, weight)| weight * f64::from(value(i)))
            .sum();
        sum.round() as u16 // a cast saturates
    };
    let narrow = |y: usize| {
        let row = &values[y * width as usize + columns.source as usize..];
        let weigh_pixel = |(x, weights): &(usize, Vec<f64>)| weigh(weights, &|i| row[x + i]);
        column_weights.iter().map(weigh_pixel).collect::<Vec<u16>>()
    };
    let top = rows.source as usize;
    let narrowed: Vec<Vec<u16>> = (top..top + rows.source_length as usize)
        .map(narrow)
        .collect();
    row_weights
        .iter()
        .flat_map(|(y, weights)| {
            (0..column_weights.len())
                .map(|x| weigh(weights, &|i| narrowed[y + i][x]))
                .collect::<Vec<_>>()
        })
        .collect()
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
