//! Convolutions in which every channel has a window of its own, channels last; what is below zero becomes zero, what is above
//! six becomes six.

use rayon::prelude::*;

use crate::ARCH;

/// What is above it becomes it.
pub const CEILING: f32 = 6.0;

/// How the windows lie, with TensorFlow's padding: each side is padded so that ⌈side / stride⌉ windows fit, an odd pixel behind.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// Pictures, height, width, channels.
    pub input: [usize; 4],
    /// Side of a window in pixels.
    pub kernel: usize,
    /// Pixels from window to window.
    pub stride: usize,
}

impl Windows {
    /// Height and width of the output.
    pub fn output(&self) -> [usize; 2] {
        [self.input[1], self.input[2]].map(|side| side.div_ceil(self.stride))
    }

    /// Rows of zeros above and columns of zeros left of the picture.
    pub fn before(&self) -> [usize; 2] {
        [self.input[1], self.input[2]].map(|side| {
            let windows = side.div_ceil(self.stride);
            let reach = (windows - 1) * self.stride + self.kernel;
            reach.saturating_sub(side) / 2
        })
    }

    /// The places of a window's `tap` and of an output along an axis meet at this input, if there is one.
    fn input_of(&self, output: usize, tap: usize, axis: usize) -> Option<usize> {
        let place = (output * self.stride + tap).checked_sub(self.before()[axis])?;
        (place < self.input[1 + axis]).then_some(place)
    }

    /// The output along an axis whose window's `tap` is this input, if there is one.
    fn output_of(&self, input: usize, tap: usize, axis: usize) -> Option<usize> {
        let place = (input + self.before()[axis]).checked_sub(tap)?;
        let output = place / self.stride;
        (place.is_multiple_of(self.stride) && output < self.output()[axis]).then_some(output)
    }
}

/// `x` as `windows` say; `weight` `[kernel · kernel, channels]`, `bias` `[channels]`; `[pictures, height, width, channels]`.
pub fn depthwise(x: &[f32], windows: Windows, weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let [pictures, height, width, channels] = windows.input;
    let [rows, columns] = windows.output();
    let mut output = vec![0.0; pictures * rows * columns * channels];
    output
        .par_chunks_exact_mut(columns * channels)
        .enumerate()
        .for_each(|(line, output)| {
            let (picture, row) = (line / rows, line % rows);
            ARCH.dispatch(
                #[inline(always)]
                || {
                    for (column, sums) in output.chunks_exact_mut(channels).enumerate() {
                        sums.copy_from_slice(bias);
                        for tap in 0..windows.kernel * windows.kernel {
                            let (down, right) = (tap / windows.kernel, tap % windows.kernel);
                            let y = windows.input_of(row, down, 0);
                            let x_place = windows.input_of(column, right, 1);
                            if let (Some(y), Some(x_place)) = (y, x_place) {
                                let start = ((picture * height + y) * width + x_place) * channels;
                                let weight = &weight[tap * channels..][..channels];
                                add_products(sums, &x[start..start + channels], weight);
                            }
                        }
                        for sum in sums {
                            *sum = sum.clamp(0.0, CEILING);
                        }
                    }
                },
            );
        });
    output
}

/// Gradient of [`depthwise`]'s input from that of its sums.
pub fn depthwise_gradient(gradient: &[f32], windows: Windows, weight: &[f32]) -> Vec<f32> {
    let [pictures, height, width, channels] = windows.input;
    let [rows, columns] = windows.output();
    let mut of_x = vec![0.0; pictures * height * width * channels];
    of_x.par_chunks_exact_mut(width * channels)
        .enumerate()
        .for_each(|(line, of_x)| {
            let (picture, y) = (line / height, line % height);
            ARCH.dispatch(
                #[inline(always)]
                || {
                    for (x_place, sums) in of_x.chunks_exact_mut(channels).enumerate() {
                        for tap in 0..windows.kernel * windows.kernel {
                            let (down, right) = (tap / windows.kernel, tap % windows.kernel);
                            let row = windows.output_of(y, down, 0);
                            let column = windows.output_of(x_place, right, 1);
                            if let (Some(row), Some(column)) = (row, column) {
                                let start = ((picture * rows + row) * columns + column) * channels;
                                let weight = &weight[tap * channels..][..channels];
                                add_products(sums, &gradient[start..start + channels], weight);
                            }
                        }
                    }
                },
            );
        });
    of_x
}

/// sums += a ∘ b
#[inline(always)]
fn add_products(sums: &mut [f32], a: &[f32], b: &[f32]) {
    for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
        *sum += a * b;
    }
}
