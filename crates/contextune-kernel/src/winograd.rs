//! Convolutions of three by three with fewer multiplications: squares of two by two results from squares of four by four
//! inputs, sixteen products instead of thirty-six (Lavin and Gray 2016, "Fast algorithms for convolutional neural networks",
//! §4.1).

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::convolution::pad;
use crate::product::{PackedMatrix, small_product};
use crate::{ARCH, lanes};

/// Numbers of a transformed square.
const PLACES: usize = 16;
/// Numbers of transformed inputs that one task works on.
const TASK: usize = 1 << 19;
/// Squares of a task at least, so that the weights are not read again too often.
const LEAST_SQUARES: usize = 96;

/// The transformed weights of a convolution with stride 1 and zeros around the picture.
#[derive(Clone, Debug)]
pub struct Winograd {
    /// One matrix `[inputs, outputs]` for each place of a transformed square.
    weights: Vec<PackedMatrix>,
    inputs: usize,
    outputs: usize,
}

impl Winograd {
    /// Of a weight `[outputs, 3 · 3 · inputs]`, a window's numbers line by line, channels last; `None` where vectors of
    /// channels do not come out even.
    pub fn new(weight: &[f32], inputs: usize) -> Option<Self> {
        let outputs = weight.len() / (9 * inputs).max(1);
        if !inputs.is_multiple_of(lanes()) || !outputs.is_multiple_of(lanes()) || inputs == 0 {
            return None;
        }
        // U = G g Gᵀ for the window g of each pair of channels.
        const G: [[f32; 3]; 4] = [
            [1.0, 0.0, 0.0],
            [0.5, 0.5, 0.5],
            [0.5, -0.5, 0.5],
            [0.0, 0.0, 1.0],
        ];
        let weights = (0..PLACES)
            .into_par_iter()
            .map(|place| {
                let (above, beside) = (G[place / 4], G[place % 4]);
                let transformed: Vec<f32> = (0..outputs * inputs)
                    .map(|pair| {
                        let window = &weight[pair / inputs * 9 * inputs + pair % inputs..];
                        (0..9)
                            .map(|i| above[i / 3] * beside[i % 3] * window[i * inputs])
                            .sum()
                    })
                    .collect(); // [outputs, inputs]
                PackedMatrix::transposed(&transformed, inputs)
            })
            .collect();
        Some(Self {
            weights,
            inputs,
            outputs,
        })
    }

    /// `x` `[batch, height, width, inputs]` -> `[batch, height, width, outputs]`, `bias` `[outputs]` added; what is below zero
    /// becomes zero.
    pub fn rectified(&self, x: &[f32], bias: &[f32], height: usize, width: usize) -> Vec<f32> {
        let batch = x.len() / (height * width * self.inputs).max(1);
        let grid = Grid {
            rows: height.div_ceil(2),
            columns: width.div_ceil(2),
            height,
            width,
        };
        let padded = pad(
            x,
            [height, width * self.inputs],
            [
                grid.padded_picture(self.inputs),
                grid.padded_line(self.inputs),
            ],
            self.inputs,
        );
        let mut output = vec![0.0; batch * height * width * self.outputs];
        if output.is_empty() {
            return output;
        }
        // A task takes whole rows of squares, or whole pictures where the last row of squares is cut off.
        let rows_of_unit = if height.is_multiple_of(2) {
            1
        } else {
            grid.rows
        };
        let squares_of_unit = rows_of_unit * grid.columns;
        let squares = (TASK / (PLACES * self.inputs)).max(LEAST_SQUARES);
        let units = squares.div_ceil(squares_of_unit);
        let all = batch * grid.rows / rows_of_unit;
        let units = units.min(all.div_ceil(rayon::current_num_threads())).max(1);
        let lines_of_unit = height * rows_of_unit / grid.rows;
        output
            .par_chunks_mut(units * lines_of_unit * width * self.outputs)
            .enumerate()
            .for_each(|(task, output)| {
                let first = task * units * rows_of_unit;
                let lines = output.len() / (width * self.outputs);
                let rows = lines / lines_of_unit * rows_of_unit;
                self.task(&padded, grid, first..first + rows, bias, output);
            });
        output
    }

    /// Rows of squares, counted over all pictures.
    fn task(
        &self,
        padded: &[f32],
        grid: Grid,
        rows: std::ops::Range<usize>,
        bias: &[f32],
        output: &mut [f32],
    ) {
        let squares = rows.len() * grid.columns;
        let mut transformed = vec![0.0; PLACES * squares * self.inputs]; // [16, squares, inputs]
        ARCH.dispatch(TransformInputs {
            padded,
            grid,
            first_row: rows.start,
            channels: self.inputs,
            output: &mut transformed,
        });
        let mut products = vec![0.0; PLACES * squares * self.outputs]; // [16, squares, outputs]
        for ((left, right), product) in transformed
            .chunks_exact(squares * self.inputs)
            .zip(&self.weights)
            .zip(products.chunks_exact_mut(squares * self.outputs))
        {
            let left: Vec<_> = left.chunks_exact(self.inputs).collect();
            small_product(&left, right, product);
        }
        ARCH.dispatch(TransformOutputs {
            products: &products,
            grid,
            first_row: rows.start,
            bias,
            output,
        });
    }
}

/// The squares of two by two results that cover a picture.
#[derive(Clone, Copy)]
struct Grid {
    rows: usize,
    columns: usize,
    height: usize,
    width: usize,
}

impl Grid {
    /// Numbers in a line of a padded picture.
    fn padded_line(&self, channels: usize) -> usize {
        (2 * self.columns + 2) * channels
    }

    /// Numbers of a padded picture.
    fn padded_picture(&self, channels: usize) -> usize {
        (2 * self.rows + 2) * self.padded_line(channels)
    }
}

/// V = Bᵀ d B of each square d of four by four.
struct TransformInputs<'a> {
    padded: &'a [f32],
    grid: Grid,
    first_row: usize,
    channels: usize,
    /// `[16, squares, channels]`
    output: &'a mut [f32],
}

impl WithSimd for TransformInputs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            padded,
            grid,
            first_row,
            channels,
            output,
        } = self;
        let place_length = output.len() / PLACES;
        let line = grid.padded_line(channels);
        for square in 0..place_length / channels {
            let row = first_row + square / grid.columns;
            let start = row / grid.rows * grid.padded_picture(channels)
                + row % grid.rows * 2 * line
                + square % grid.columns * 2 * channels;
            for channel in (0..channels).step_by(S::F32_LANES) {
                let mut values = [[simd.splat_f32s(0.0); 4]; 4];
                for (y, values) in values.iter_mut().enumerate() {
                    for (x, value) in values.iter_mut().enumerate() {
                        let place = start + y * line + x * channels + channel;
                        let (vectors, _) = S::as_simd_f32s(&padded[place..place + S::F32_LANES]);
                        *value = vectors[0];
                    }
                }
                let mut lines = values;
                for line in &mut lines {
                    *line = inputs_along(simd, *line);
                }
                let column = |x: usize| [lines[0][x], lines[1][x], lines[2][x], lines[3][x]];
                for x in 0..4 {
                    let results = inputs_along(simd, column(x));
                    for (y, value) in results.into_iter().enumerate() {
                        let place = (4 * y + x) * place_length + square * channels + channel;
                        let (vectors, _) =
                            S::as_mut_simd_f32s(&mut output[place..place + S::F32_LANES]);
                        vectors[0] = value;
                    }
                }
            }
        }
    }
}

/// Bᵀ (a, b, c, d)ᵀ = (a − c, b + c, c − b, b − d).
#[inline(always)]
fn inputs_along<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 4] {
    [
        simd.sub_f32s(a, c),
        simd.add_f32s(b, c),
        simd.sub_f32s(c, b),
        simd.sub_f32s(b, d),
    ]
}

/// Aᵀ (a, b, c, d)ᵀ = (a + b + c, b − c − d).
#[inline(always)]
fn outputs_along<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 2] {
    [
        simd.add_f32s(a, simd.add_f32s(b, c)),
        simd.sub_f32s(b, simd.add_f32s(c, d)),
    ]
}

/// Y = Aᵀ M A of each square M of four by four, the bias added, what is below zero made zero.
struct TransformOutputs<'a> {
    /// `[16, squares, channels]`
    products: &'a [f32],
    grid: Grid,
    first_row: usize,
    bias: &'a [f32],
    /// The lines of pixels that the squares cover.
    output: &'a mut [f32],
}

impl WithSimd for TransformOutputs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            products,
            grid,
            first_row,
            bias,
            output,
        } = self;
        let channels = bias.len();
        let place_length = products.len() / PLACES;
        let zero = simd.splat_f32s(0.0);
        let first_line = first_row / grid.rows * grid.height + 2 * (first_row % grid.rows);
        for square in 0..place_length / channels {
            let row = first_row + square / grid.columns;
            let (y, x) = (2 * (row % grid.rows), 2 * (square % grid.columns));
            let line = row / grid.rows * grid.height + y - first_line;
            for channel in (0..channels).step_by(S::F32_LANES) {
                let mut values = [[zero; 4]; 4];
                for (place, value) in values.as_flattened_mut().iter_mut().enumerate() {
                    let start = place * place_length + square * channels + channel;
                    let (vectors, _) = S::as_simd_f32s(&products[start..start + S::F32_LANES]);
                    *value = vectors[0];
                }
                let (biases, _) = S::as_simd_f32s(&bias[channel..channel + S::F32_LANES]);
                let mut lines = [[zero; 2]; 4];
                for (line, values) in lines.iter_mut().zip(values) {
                    *line = outputs_along(simd, values);
                }
                let column = |x: usize| [lines[0][x], lines[1][x], lines[2][x], lines[3][x]];
                for dx in 0..2.min(grid.width - x) {
                    let results = outputs_along(simd, column(dx));
                    for (dy, value) in results.into_iter().enumerate().take(grid.height - y) {
                        let pixel = (line + dy) * grid.width + x + dx;
                        let start = pixel * channels + channel;
                        let (vectors, _) =
                            S::as_mut_simd_f32s(&mut output[start..start + S::F32_LANES]);
                        vectors[0] = simd.max_f32s(simd.add_f32s(value, biases[0]), zero);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convolution::{Windows, convolution};
    use crate::product::Epilogue;
    use proptest::prelude::*;

    fn value(index: usize) -> f32 {
        ((index * 7919 + 13) % 101) as f32 / 50.0 - 1.0
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn fewer_multiplications_give_the_same_convolution(
            batch in 1..4usize, height in 1..19usize, width in 1..19usize, inputs in 1..3usize, outputs in 1..3usize,
        ) {
            let (inputs, outputs) = (inputs * lanes(), outputs * lanes());
            let x: Vec<f32> = (0..batch * height * width * inputs).map(value).collect();
            let weight: Vec<f32> = (0..9 * inputs * outputs).map(|i| value(3 * i) / 10.0).collect();
            let bias: Vec<f32> = (0..outputs).map(|i| value(5 * i)).collect();
            let winograd = Winograd::new(&weight, inputs).unwrap();
            let actual = winograd.rectified(&x, &bias, height, width);
            let epilogue = Epilogue { bias: Some(&bias), residual: None, rectify: true };
            let windows = Windows::new([batch, height, width, inputs], 1);
            let expected = convolution(&x, windows, &PackedMatrix::transposed(&weight, 9 * inputs), epilogue);
            prop_assert_eq!(actual.len(), expected.len());
            for (actual, expected) in actual.iter().zip(expected) {
                prop_assert!((actual - expected).abs() <= 1e-4, "{actual} {expected}");
            }
        }
    }
}
