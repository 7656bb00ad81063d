//! Convolutions with known weights on pictures `[batch, height, width, channels]`, as products that read each window where
//! it lies.

use rayon::prelude::*;

use crate::product::{Epilogue, PackedMatrix, gathered_product, product};

/// Side of the window.
const KERNEL: usize = 3;
/// Zeros added around a picture.
const PADDING: usize = 1;

/// A batch of pictures and the window of three by three that moves over them.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    batch: usize,
    height: usize,
    width: usize,
    channels: usize,
    stride: usize,
}

impl Windows {
    /// Of pictures `[batch, height, width, channels]`.
    pub fn new([batch, height, width, channels]: [usize; 4], stride: usize) -> Self {
        Self {
            batch,
            height,
            width,
            channels,
            stride,
        }
    }

    /// Height and width of the result.
    pub fn output(&self) -> [usize; 2] {
        let along = |side: usize| (side + 2 * PADDING - KERNEL) / self.stride + 1;
        [along(self.height), along(self.width)]
    }

    /// Numbers in a row of a padded picture.
    fn padded_row(&self) -> usize {
        (self.width + 2 * PADDING) * self.channels
    }

    /// Numbers of a padded picture.
    fn padded_picture(&self) -> usize {
        (self.height + 2 * PADDING) * self.padded_row()
    }

    /// Where line `line` of the window for place `(y, x)` begins in a padded picture.
    fn line(&self, y: usize, x: usize, line: usize) -> usize {
        (y * self.stride + line) * self.padded_row() + x * self.stride * self.channels
    }
}

/// `x` `[batch, height, width, channels]` by a weight whose inputs are a window's numbers, line by line, channels last;
/// `[batch · output height · output width, outputs]`.
pub fn convolution(
    x: &[f32],
    windows: Windows,
    weight: &PackedMatrix,
    epilogue: Epilogue<'_>,
) -> Vec<f32> {
    let padded = pad(
        x,
        [windows.height, windows.width * windows.channels],
        [windows.padded_picture(), windows.padded_row()],
        windows.channels,
    );
    let [height, width] = windows.output();
    let length = KERNEL * windows.channels;
    let rows = windows.batch * height * width;
    gathered_product(rows, KERNEL, length, weight, epilogue, |row, line| {
        let (picture, place) = (row / (height * width), row % (height * width));
        let start =
            picture * windows.padded_picture() + windows.line(place / width, place % width, line);
        &padded[start..start + length]
    })
}

/// Gradient of [`convolution`]'s `x` from its output's; `weight` is its weight, transposed.
pub fn convolution_gradient(gradient: &[f32], windows: Windows, weight: &PackedMatrix) -> Vec<f32> {
    let [_, width] = windows.output();
    let length = KERNEL * windows.channels;
    let mut of_padded = vec![0.0; windows.batch * windows.padded_picture()];
    let of_picture = gradient.len() / windows.batch;
    for (picture, gradient) in of_padded
        .chunks_exact_mut(windows.padded_picture())
        .zip(gradient.chunks_exact(of_picture))
    {
        let of_windows = product(gradient, weight, Epilogue::default()); // [places, kernel · length]
        for (place, lines) in of_windows.chunks_exact(KERNEL * length).enumerate() {
            for (line, values) in lines.chunks_exact(length).enumerate() {
                let start = windows.line(place / width, place % width, line);
                for (sum, value) in picture[start..start + length].iter_mut().zip(values) {
                    *sum += value;
                }
            }
        }
    }
    unpad(&of_padded, windows)
}

/// The mean of each square of two by two, `[batch, height, width, channels]` -> half of height and width.
pub fn halve(x: &[f32], width: usize, channels: usize) -> Vec<f32> {
    let row = width * channels;
    let mut output = vec![0.0; x.len() / 4];
    output
        .par_chunks_mut(row / 2)
        .zip(x.par_chunks(2 * row))
        .for_each(|(output, rows)| {
            let (above, below) = rows.split_at(row);
            for (place, output) in output.chunks_exact_mut(channels).enumerate() {
                let left = 2 * place * channels;
                let right = left + channels;
                for (channel, output) in output.iter_mut().enumerate() {
                    let sum = above[left + channel]
                        + above[right + channel]
                        + below[left + channel]
                        + below[right + channel];
                    *output = 0.25 * sum;
                }
            }
        });
    output
}

/// Gradient of [`halve`]'s `x`, `width` wide, from its output's.
pub fn halve_gradient(gradient: &[f32], width: usize, channels: usize) -> Vec<f32> {
    let row = width * channels;
    let mut output = vec![0.0; 4 * gradient.len()];
    output
        .par_chunks_mut(2 * row)
        .zip(gradient.par_chunks(row / 2))
        .for_each(|(rows, gradient)| {
            for row in rows.chunks_exact_mut(row) {
                let pairs = row.chunks_exact_mut(2 * channels);
                for (pair, gradient) in pairs.zip(gradient.chunks_exact(channels)) {
                    for of_one in pair.chunks_exact_mut(channels) {
                        for (value, gradient) in of_one.iter_mut().zip(gradient) {
                            *value = 0.25 * gradient;
                        }
                    }
                }
            }
        });
    output
}

/// Zeros around pictures of `[height, line]` numbers: each begins in the second line of `padded_line` numbers, behind one
/// pixel, in `padded` numbers in all.
pub(crate) fn pad(
    x: &[f32],
    [height, line]: [usize; 2],
    [padded, padded_line]: [usize; 2],
    channels: usize,
) -> Vec<f32> {
    let pictures = x.len() / (height * line).max(1);
    let mut output = vec![0.0; pictures * padded];
    output
        .par_chunks_mut(padded)
        .zip(x.par_chunks(height * line))
        .for_each(|(output, x)| {
            let lines = output.chunks_exact_mut(padded_line);
            for (output, x) in lines.skip(PADDING).zip(x.chunks_exact(line)) {
                let start = PADDING * channels;
                output[start..start + line].copy_from_slice(x);
            }
        });
    output
}

/// Each picture without what is around it.
fn unpad(padded: &[f32], windows: Windows) -> Vec<f32> {
    let row = windows.width * windows.channels;
    let mut x = vec![0.0; windows.batch * windows.height * row];
    x.par_chunks_mut(windows.height * row)
        .zip(padded.par_chunks(windows.padded_picture()))
        .for_each(|(x, padded)| {
            let rows = padded.chunks_exact(windows.padded_row());
            for (x, padded) in x.chunks_exact_mut(row).zip(rows.skip(PADDING)) {
                let start = PADDING * windows.channels;
                x.copy_from_slice(&padded[start..start + row]);
            }
        });
    x
}

/// Pictures `[batch, 3, side, side]` cut into squares of `patch` by `patch` pixels, each by `weight`, whose inputs are a
/// square's numbers channel by channel, and `bias` `[outputs]`; `[batch · squares, outputs]`.
pub fn patches(
    pixels: &[f32],
    side: usize,
    patch: usize,
    weight: &PackedMatrix,
    bias: &[f32],
) -> Vec<f32> {
    let squares = side / patch;
    let rows = pixels.len() / (3 * side * side) * squares * squares;
    gathered_product(
        rows,
        3 * patch,
        patch,
        weight,
        Epilogue {
            bias: Some(bias),
            ..Epilogue::default()
        },
        |row, piece| {
            let start = square_start(row, piece, side, patch);
            &pixels[start..start + patch]
        },
    )
}

/// Gradient of [`patches`]' pixels from its output's; `weight` is its weight, transposed.
pub fn patches_gradient(
    gradient: &[f32],
    side: usize,
    patch: usize,
    weight: &PackedMatrix,
) -> Vec<f32> {
    let squares = side / patch;
    let of_squares = product(gradient, weight, Epilogue::default()); // [rows, 3 · patch · patch]
    let pictures = of_squares.len() / (squares * squares * 3 * patch * patch);
    let mut pixels = vec![0.0; pictures * 3 * side * side];
    for (row, values) in of_squares.chunks_exact(3 * patch * patch).enumerate() {
        for (piece, values) in values.chunks_exact(patch).enumerate() {
            let start = square_start(row, piece, side, patch);
            pixels[start..start + patch].copy_from_slice(values);
        }
    }
    pixels
}

/// Where line `piece` (channel by channel) of square `row` begins.
fn square_start(row: usize, piece: usize, side: usize, patch: usize) -> usize {
    let squares = side / patch;
    let (picture, square) = (row / (squares * squares), row % (squares * squares));
    let (channel, line) = (piece / patch, piece % patch);
    let y = square / squares * patch + line;
    ((picture * 3 + channel) * side + y) * side + square % squares * patch
}
