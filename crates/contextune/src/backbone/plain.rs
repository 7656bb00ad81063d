//! The plain walk: a batch of sequences of equal length through the blocks, with any mask.

use burn::tensor::{Bool, Device, Tensor, TensorData};

use super::transformer::{Block, attention, merge_heads, split_heads};
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
    let device = x.device();
    let Some((last, inner)) = blocks.split_last() else {
        return read_rows(x, read_out);
    };
    let hidden = match mask {
        Mask::None => None,
        Mask::Causal => Some(causal_mask(rows, &device)), // [1, 1, T, T]
    };

    let mut x = x;
    for block in inner {
        let normed = block.attention_norm.forward(x.clone());
        let attended = attention(
            split_heads(block.query.forward(normed.clone()), block.heads()),
            split_heads(block.key.forward(normed.clone()), block.heads()),
            split_heads(block.value.forward(normed), block.heads()),
            hidden.clone(),
        );
        x = block.finish(x, merge_heads(attended)); // [B, T, d]
    }

    let normed = last.attention_norm.forward(x.clone());
    let query = last.query.forward(read_rows(normed.clone(), read_out)); // [B, d]
    let hidden = match mask {
        Mask::None => None,
        Mask::Causal => Some(rows_after(read_out, rows, &device)), // [B, 1, 1, T]
    };
    let attended = attention(
        split_heads(query.reshape([batch, 1, width]), last.heads()),
        split_heads(last.key.forward(normed.clone()), last.heads()),
        split_heads(last.value.forward(normed), last.heads()),
        hidden,
    );
    last.finish(
        read_rows(x, read_out),
        merge_heads(attended).reshape([batch, width]),
    )
}

/// Row `read_out[b]` of each sequence: `[B, T, d]` -> `[B, d]`.
fn read_rows(x: Tensor<3>, read_out: &[usize]) -> Tensor<2> {
    let [batch, rows, width] = x.dims();
    let device = x.device();
    let places = (0..batch).map(|b| b * rows + read_out[b]);
    x.reshape([batch * rows, width])
        .select(0, indices(places, &device))
}

/// `[1, 1, T, T]`, true above the diagonal.
pub(super) fn causal_mask(rows: usize, device: &Device) -> Tensor<4, Bool> {
    let hidden: Vec<bool> = (0..rows)
        .flat_map(|query| (0..rows).map(move |key| key > query))
        .collect();
    Tensor::from_data(TensorData::new(hidden, [1, 1, rows, rows]), device)
}

/// `[B, 1, 1, T]`, true for the rows after the one read out.
fn rows_after(read_out: &[usize], rows: usize, device: &Device) -> Tensor<4, Bool> {
    let hidden: Vec<bool> = read_out
        .iter()
        .flat_map(|&row| (0..rows).map(move |key| key > row))
        .collect();
    Tensor::from_data(
        TensorData::new(hidden, [read_out.len(), 1, 1, rows]),
        device,
    )
}
