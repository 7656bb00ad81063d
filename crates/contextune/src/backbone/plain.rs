//! The plain walk: a batch of sequences of equal length through the blocks, with any mask.

use burn::tensor::Tensor;

use super::fused;
use super::transformer::Block;
use crate::indices::indices;

/// Which rows may look at which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Every row sees every row (image towers).
    None,
    /// A row sees itself and the rows before it (text towers).
    Causal,
}

/// Runs `blocks` over `x` `[B, T, d]` and returns one row of each sequence, `[B, d]`: row `read_out[b]` of sequence `b`.
///
/// The last block computes queries, attention and MLP for the rows read out alone.
pub fn walk(blocks: &[Block], x: Tensor<3>, mask: Mask, read_out: &[usize]) -> Tensor<2> {
    let [batch, rows, width] = x.dims();
    let Some((last, inner)) = blocks.split_last() else {
        return read_rows(x, read_out);
    };
    let seen = match mask {
        Mask::None => None,
        Mask::Causal => Some((0..batch).flat_map(|_| 1..=rows).collect()), // [B · T]
    };

    let mut x = x;
    for block in inner {
        let normed = block.attention_norm.forward(x.clone());
        let attended = fused::attention(
            block.query.forward(normed.clone()),
            block.key.forward(normed.clone()),
            block.value.forward(normed),
            block.heads(),
            seen.clone(),
        );
        x = block.finish(x, attended); // [B, T, d]
    }

    let normed = last.attention_norm.forward(x.clone());
    let query = last.query.forward(read_rows(normed.clone(), read_out)); // [B, d]
    let seen = match mask {
        Mask::None => None,
        Mask::Causal => Some(read_out.iter().map(|row| row + 1).collect()), // [B]
    };
    let attended = fused::attention(
        query.reshape([batch, 1, width]),
        last.key.forward(normed.clone()),
        last.value.forward(normed),
        last.heads(),
        seen,
    );
    last.finish(read_rows(x, read_out), attended.reshape([batch, width]))
}

/// Row `read_out[b]` of each sequence: `[B, T, d]` -> `[B, d]`.
fn read_rows(x: Tensor<3>, read_out: &[usize]) -> Tensor<2> {
    let [batch, rows, width] = x.dims();
    let device = x.device();
    let places = (0..batch).map(|b| b * rows + read_out[b]);
    x.reshape([batch * rows, width])
        .select(0, indices(places, &device))
}
