//! Matrix products whose right side is known long before: it is packed once, in the order in which a product reads it.
//!
//! The inner loop keeps a tile of the result in registers: 12 rows by two vectors where there are 32 registers, 6 by two
//! where there are 16 (Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication"; here the left
//! side is read where it lies).

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::{ARCH, lanes};

/// Vectors in a row of a tile.
const VECTORS: usize = 2;
/// Left numbers whose loads are checked against the slice's end at once.
const STRIDE: usize = 16;
/// Numbers of the left side that one task reads again and again: they should stay in its core's cache.
const TASK: usize = 96 * 1024;

/// A matrix `[inputs, outputs]` in panels of as many columns as a tile has.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    /// `[panels, inputs, columns of a panel]`, zeros behind the last column.
    panels: Vec<f32>,
    inputs: usize,
    outputs: usize,
    columns: usize,
}

impl PackedMatrix {
    /// Packs the matrix whose columns are `column(0)`, `column(1)`, …, each of `inputs` numbers.
    pub fn of_columns<'a>(
        inputs: usize,
        outputs: usize,
        column: impl Fn(usize) -> &'a [f32],
    ) -> Self {
        let mut packed = Self::zeros(inputs, outputs);
        let columns = packed.columns;
        for output in 0..outputs {
            let start = output / columns * inputs * columns + output % columns;
            let places = packed.panels[start..].iter_mut().step_by(columns);
            for (place, value) in places.zip(column(output)) {
                *place = *value;
            }
        }
        packed
    }

    /// Packs the matrix whose rows are `row(0)`, `row(1)`, …, each of `outputs` numbers.
    pub fn of_rows<'a>(inputs: usize, outputs: usize, row: impl Fn(usize) -> &'a [f32]) -> Self {
        let mut packed = Self::zeros(inputs, outputs);
        let columns = packed.columns;
        for input in 0..inputs {
            for (panel, values) in row(input).chunks(columns).enumerate() {
                let start = (panel * inputs + input) * columns;
                packed.panels[start..start + values.len()].copy_from_slice(values);
            }
        }
        packed
    }

    /// Packs Wᵀ of a weight W stored as `[outputs, inputs]`.
    pub fn transposed(weight: &[f32], inputs: usize) -> Self {
        let outputs = weight.len() / inputs.max(1);
        Self::of_columns(inputs, outputs, |output| {
            &weight[output * inputs..(output + 1) * inputs]
        })
    }

    /// The transposed matrix, packed.
    pub fn transpose(&self) -> Self {
        let mut packed = Self::zeros(self.outputs, self.inputs);
        for (panel, values) in self.panels.chunks(self.inputs * self.columns).enumerate() {
            for (input, row) in values.chunks(self.columns).enumerate() {
                let start = input / packed.columns * packed.inputs * packed.columns;
                for (output, value) in (panel * self.columns..self.outputs).zip(row) {
                    let place = start + output * packed.columns + input % packed.columns;
                    packed.panels[place] = *value;
                }
            }
        }
        packed
    }

    fn zeros(inputs: usize, outputs: usize) -> Self {
        let columns = VECTORS * lanes();
        Self {
            panels: vec![0.0; outputs.div_ceil(columns) * inputs * columns],
            inputs,
            outputs,
            columns,
        }
    }

    /// Columns.
    pub fn outputs(&self) -> usize {
        self.outputs
    }
}

/// What happens to a row of the product before it is stored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// Added to each row, `[outputs]`.
    pub bias: Option<&'a [f32]>,
    /// Added number by number, `[rows, outputs]`.
    pub residual: Option<&'a [f32]>,
    /// Whether what is below zero becomes zero.
    pub rectify: bool,
}

/// x·W for the rows of `x` `[rows, inputs]`, into `[rows, outputs]`; on all cores.
pub fn product(x: &[f32], weight: &PackedMatrix, epilogue: Epilogue<'_>) -> Vec<f32> {
    let inputs = weight.inputs;
    let rows = x.len() / inputs.max(1);
    gathered_product(rows, 1, inputs, weight, epilogue, |row, _| {
        &x[row * inputs..(row + 1) * inputs]
    })
}

/// The same for rows that lie in `segments` pieces of `length` numbers here and there.
pub fn gathered_product<'a>(
    rows: usize,
    segments: usize,
    length: usize,
    weight: &PackedMatrix,
    epilogue: Epilogue<'_>,
    segment: impl Fn(usize, usize) -> &'a [f32] + Sync,
) -> Vec<f32> {
    assert_eq!(segments * length, weight.inputs);
    let outputs = weight.outputs;
    let mut output = vec![0.0; rows * outputs];
    if output.is_empty() {
        return output;
    }
    let tile = tile_rows();
    let most = (TASK / weight.inputs.max(1)).max(tile);
    let tasks = rows
        .div_ceil(most)
        .next_multiple_of(rayon::current_num_threads());
    let at_once = rows.div_ceil(tasks).next_multiple_of(tile);
    output
        .par_chunks_mut(at_once * outputs)
        .enumerate()
        .for_each(|(task, output)| {
            let first = task * at_once;
            let rows = first..first + output.len() / outputs;
            let pieces: Vec<&[f32]> = rows
                .clone()
                .flat_map(|row| (0..segments).map(move |piece| (row, piece)))
                .map(|(row, piece)| segment(row, piece))
                .collect();
            let residual = epilogue
                .residual
                .map(|residual| &residual[rows.start * outputs..rows.end * outputs]);
            ARCH.dispatch(Task {
                pieces: &pieces,
                segments,
                length,
                weight,
                epilogue: Epilogue {
                    residual,
                    ..epilogue
                },
                output,
            });
        });
    output
}

/// x·W on this core alone, for `x` whose rows are the given slices; `output` `[rows, outputs]`.
pub fn small_product(x: &[&[f32]], weight: &PackedMatrix, output: &mut [f32]) {
    ARCH.dispatch(Task {
        pieces: x,
        segments: 1,
        length: weight.inputs,
        weight,
        epilogue: Epilogue::default(),
        output,
    });
}

/// Rows of a tile on this machine.
fn tile_rows() -> usize {
    struct TileRows;

    impl WithSimd for TileRows {
        type Output = usize;

        fn with_simd<S: Simd>(self, _simd: S) -> usize {
            if S::REGISTER_COUNT >= 32 { 12 } else { 6 }
        }
    }

    ARCH.dispatch(TileRows)
}

/// Some rows of a product.
struct Task<'a> {
    /// `[rows, segments]`
    pieces: &'a [&'a [f32]],
    segments: usize,
    length: usize,
    weight: &'a PackedMatrix,
    epilogue: Epilogue<'a>,
    /// `[rows, outputs]`
    output: &'a mut [f32],
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 {
            self.run::<S, 12>(simd);
        } else {
            self.run::<S, 6>(simd);
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn run<S: Simd, const ROWS: usize>(self, simd: S) {
        let Self {
            pieces,
            segments,
            length,
            weight,
            epilogue,
            output,
        } = self;
        let (outputs, columns) = (weight.outputs, weight.columns);
        let rows = output.len() / outputs;
        for (panel, values) in weight
            .panels
            .chunks_exact(weight.inputs * columns)
            .enumerate()
        {
            let first_column = panel * columns;
            let stored = columns.min(outputs - first_column);
            let mut bias = [simd.splat_f32s(0.0); VECTORS];
            if let Some(all) = epilogue.bias {
                load(simd, &all[first_column..first_column + stored], &mut bias);
            }
            for first in (0..rows).step_by(ROWS) {
                // Rows that fill up the last tile are read from its first row, and not stored.
                let present = ROWS.min(rows - first);
                let mut tile = [bias; ROWS];
                for segment in 0..segments {
                    let mut left = [pieces[first * segments + segment]; ROWS];
                    for (row, left) in left.iter_mut().enumerate().take(present) {
                        *left = pieces[(first + row) * segments + segment];
                    }
                    let part = segment * length * columns..(segment + 1) * length * columns;
                    accumulate(simd, left, &values[part], &mut tile);
                }
                for (row, sums) in tile.iter_mut().enumerate().take(present) {
                    let start = (first + row) * outputs + first_column;
                    let place = start..start + stored;
                    if let Some(residual) = epilogue.residual {
                        let mut addend = [simd.splat_f32s(0.0); VECTORS];
                        load(simd, &residual[place.clone()], &mut addend);
                        for (sum, addend) in sums.iter_mut().zip(addend) {
                            *sum = simd.add_f32s(*sum, addend);
                        }
                    }
                    if epilogue.rectify {
                        for sum in sums.iter_mut() {
                            *sum = simd.max_f32s(*sum, simd.splat_f32s(0.0));
                        }
                    }
                    store(simd, sums, &mut output[place]);
                }
            }
        }
    }
}

/// tile += left · right, `left` `[ROWS, n]`, `right` `[n, columns of a panel]`.
#[inline(always)]
fn accumulate<S: Simd, const ROWS: usize>(
    simd: S,
    left: [&[f32]; ROWS],
    right: &[f32],
    tile: &mut [[S::f32s; VECTORS]; ROWS],
) {
    let (right, _) = S::as_simd_f32s(right);
    let (right, _) = pulp::as_arrays::<VECTORS, _>(right); // [n]
    let mut sums = *tile;
    // Whole strides, whose bounds are checked once.
    let (whole, rest) = pulp::as_arrays::<STRIDE, _>(right);
    for (block, right) in whole.iter().enumerate() {
        let mut strides = [&[0.0; STRIDE]; ROWS];
        for (stride, row) in strides.iter_mut().zip(left) {
            *stride = &pulp::as_arrays::<STRIDE, _>(row).0[block];
        }
        for (place, right) in right.iter().enumerate() {
            for (sums, left) in sums.iter_mut().zip(strides) {
                let left = simd.splat_f32s(left[place]);
                for (sum, &right) in sums.iter_mut().zip(right) {
                    *sum = simd.mul_add_e_f32s(left, right, *sum);
                }
            }
        }
    }
    let done = whole.len() * STRIDE;
    for (place, right) in rest.iter().enumerate() {
        for (sums, left) in sums.iter_mut().zip(left) {
            let left = simd.splat_f32s(left[done + place]);
            for (sum, &right) in sums.iter_mut().zip(right) {
                *sum = simd.mul_add_e_f32s(left, right, *sum);
            }
        }
    }
    *tile = sums;
}

/// A part of a row, up to a panel's width, into vectors.
#[inline(always)]
fn load<S: Simd>(simd: S, values: &[f32], vectors: &mut [S::f32s; VECTORS]) {
    let (whole, rest) = S::as_simd_f32s(values);
    for (vector, whole) in vectors.iter_mut().zip(whole) {
        *vector = *whole;
    }
    if !rest.is_empty() {
        vectors[whole.len()] = simd.partial_load_f32s(rest);
    }
}

/// Vectors into a part of a row, up to a panel's width.
#[inline(always)]
fn store<S: Simd>(simd: S, vectors: &[S::f32s; VECTORS], values: &mut [f32]) {
    let (whole, rest) = S::as_mut_simd_f32s(values);
    for (whole, vector) in whole.iter_mut().zip(vectors) {
        *whole = *vector;
    }
    if !rest.is_empty() {
        simd.partial_store_f32s(rest, vectors[whole.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(index: usize) -> f32 {
        ((index * 7919 + 13) % 101) as f32 / 50.0 - 1.0
    }

    proptest! {
        #[test]
        fn products_equal_their_definition(
            rows in 1..40usize, inputs in 1..70usize, outputs in 1..90usize, rectify: bool, residual: bool,
        ) {
            let x: Vec<f32> = (0..rows * inputs).map(value).collect();
            let weight: Vec<f32> = (0..inputs * outputs).map(|i| value(3 * i)).collect(); // [outputs, inputs]
            let bias: Vec<f32> = (0..outputs).map(|i| value(5 * i)).collect();
            let added: Vec<f32> = (0..rows * outputs).map(|i| value(11 * i)).collect();
            let packed = PackedMatrix::transposed(&weight, inputs);
            let epilogue = Epilogue {
                bias: Some(&bias),
                residual: residual.then_some(&added[..]),
                rectify,
            };
            let actual = product(&x, &packed, epilogue);
            let back = product(&actual, &packed.transpose(), Epilogue::default());
            for row in 0..rows {
                for output in 0..outputs {
                    let sum: f32 = (0..inputs)
                        .map(|input| x[row * inputs + input] * weight[output * inputs + input])
                        .sum();
                    let mut expected = sum + bias[output];
                    if residual {
                        expected += added[row * outputs + output];
                    }
                    if rectify {
                        expected = expected.max(0.0);
                    }
                    prop_assert!((actual[row * outputs + output] - expected).abs() <= 1e-4);
                }
                for input in 0..inputs {
                    let expected: f32 = (0..outputs)
                        .map(|output| actual[row * outputs + output] * weight[output * inputs + input])
                        .sum();
                    let size = expected.abs().max(1.0);
                    prop_assert!((back[row * inputs + input] - expected).abs() <= 1e-3 * size);
                }
            }
        }
    }
}
