//! Position embeddings for another grid of patches than the one that was learned.

use burn::tensor::{Tensor, TensorData};

use super::PositionResizing;

/// A square grid of rows `[from², d]` as a square grid `[to², d]`. Each axis is a weighted sum of the old rows: two products.
pub(super) fn resized(
    grid: Tensor<2>,
    from: usize,
    to: usize,
    resizing: PositionResizing,
) -> Tensor<2> {
    let width = grid.dims()[1];
    let weights = TensorData::new(axis_weights(from, to, resizing), [to, from]);
    let weights = Tensor::<2>::from_data(weights, &grid.device());
    let rows = weights.clone().matmul(grid.reshape([from, from * width])); // [to, from · d]
    let columns = rows.reshape([to, from, width]).swap_dims(0, 1); // [from, to, d]
    weights
        .matmul(columns.reshape([from, to * width])) // [to, to · d], the columns first
        .reshape([to, to, width])
        .swap_dims(0, 1)
        .reshape([to * to, width])
}

/// Row `i` holds what each old place gives to the new place `i`, `[to, from]`.
fn axis_weights(from: usize, to: usize, resizing: PositionResizing) -> Vec<f32> {
    let mut weights = vec![0.0; to * from];
    for (place, row) in weights.chunks_exact_mut(from).enumerate() {
        let mut give = |old: isize, weight: f64| {
            row[old.clamp(0, from as isize - 1) as usize] += weight as f32;
        };
        match resizing {
            PositionResizing::Linear => {
                let at = match to {
                    1 => 0.0,
                    _ => place as f64 * (from - 1) as f64 / (to - 1) as f64,
                };
                let share = at - at.floor();
                give(at.floor() as isize, 1.0 - share);
                give(at.floor() as isize + 1, share);
            }
            PositionResizing::Bicubic => {
                let at = (place as f64 + 0.5) * from as f64 / to as f64 - 0.5;
                let first = at.floor() as isize;
                for old in first - 1..=first + 2 {
                    give(old, cubic(at - old as f64));
                }
            }
        }
    }
    weights
}

/// Keys' kernel with a = −0.75, as PyTorch interpolates.
fn cubic(distance: f64) -> f64 {
    const A: f64 = -0.75;
    let x = distance.abs();
    match x {
        _ if x <= 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        _ if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_and_keep_what_lies_on_the_grid() {
        for resizing in [PositionResizing::Linear, PositionResizing::Bicubic] {
            for (from, to) in [(4, 6), (37, 16), (14, 14), (1, 3), (3, 1)] {
                let weights = axis_weights(from, to, resizing);
                for (place, row) in weights.chunks_exact(from).enumerate() {
                    assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
                    assert!(from != to || row[place] == 1.0);
                }
            }
        }
    }
}
