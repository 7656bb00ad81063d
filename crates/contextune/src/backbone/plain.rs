//! The plain walk: a batch of sequences of equal length through the blocks, with any mask and with rows inserted on the way.

use std::collections::BTreeMap;

use burn::tensor::Tensor;

use super::fused;
use super::kinds::Seen;
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

/// What happens to the rows before some of the blocks, by the number of the block.
///
/// Rows are inserted behind those of the sequence: without a mask the order of rows means nothing.
pub type Inserts = BTreeMap<usize, Insert>;

/// What happens before a block.
#[derive(Clone, Debug)]
pub enum Insert {
    /// Rows take the place of those inserted before: `[B, p, d]`, or `[1, p, d]`, the same in every sequence.
    Rows(Tensor<3>),
    /// The same, and the first `p` rows behind the class token are lost.
    RowsInsteadOfPatches(Tensor<3>),
    /// What was inserted goes.
    Nothing,
    /// Summands of the rows, `[B or 1, T or 1, d]`.
    Summands(Tensor<3>),
}

/// Runs `blocks` over `x` `[B, T, d]` and returns one row of each sequence, `[B, d]`: row `read_out[b]` of sequence `b`.
///
/// The last block computes queries, attention and MLP for the rows read out alone.
pub fn walk(
    blocks: &[Block],
    x: Tensor<3>,
    mask: Mask,
    inserts: &Inserts,
    read_out: &[usize],
) -> Tensor<2> {
    let [batch, _, width] = x.dims();
    let Some((last, inner)) = blocks.split_last() else {
        return read_rows(x, read_out);
    };
    let mut rows = Walked::through(inner, x, mask, inserts);
    rows.insert(inserts.get(&inner.len()));

    let Walked { x, entered, .. } = rows;
    let normed = last.attention_norm.forward(x.clone());
    let query = last.query.forward(read_rows(normed.clone(), read_out)); // [B, d]
    let seen = match mask {
        Mask::None => None,
        Mask::Causal => Some(read_out.iter().map(|row| row + 1).collect()), // [B]
    };
    let (key, value) = keys_and_values(last, normed, entered.as_ref());
    let query = query.reshape([batch, 1, width]);
    let attended = fused::attention(query, key, value, last.heads(), seen);
    last.finish(read_rows(x, read_out), attended.reshape([batch, width]))
}

/// The same with all rows, those inserted last behind the sequence's own: `[B, T + p, d]`.
pub fn walk_all(blocks: &[Block], x: Tensor<3>, mask: Mask, inserts: &Inserts) -> Tensor<3> {
    Walked::through(blocks, x, mask, inserts).x
}

/// Row 0 of each sequence before every block and behind the last: one more than blocks, `[B, d]` each.
pub fn first_rows(blocks: &[Block], x: Tensor<3>) -> Vec<Tensor<2>> {
    let [batch, own, width] = x.dims();
    let first = |x: &Tensor<3>| x.clone().narrow(1, 0, 1).reshape([batch, width]);
    let mut firsts = vec![first(&x)];
    let mut rows = Walked {
        own,
        x,
        entered: None,
        mask: Mask::None,
    };
    for block in blocks {
        rows.pass(block, false);
        firsts.push(first(&rows.x));
    }
    firsts
}

/// The rows between two blocks.
struct Walked {
    /// The sequence's own rows and, behind them, inserted ones that differ from sequence to sequence already:
    /// `[B, T + p, d]`.
    x: Tensor<3>,
    /// T
    own: usize,
    /// Inserted rows that no block has seen yet, `[B or 1, p, d]`.
    entered: Option<Tensor<3>>,
    mask: Mask,
}

impl Walked {
    /// All rows through all `blocks`, of which the first has the number 0 in `inserts`.
    fn through(blocks: &[Block], x: Tensor<3>, mask: Mask, inserts: &Inserts) -> Self {
        let mut rows = Self {
            own: x.dims()[1],
            x,
            entered: None,
            mask,
        };
        for (number, block) in blocks.iter().enumerate() {
            rows.insert(inserts.get(&number));
            let next = inserts.get(&(number + 1));
            rows.pass(
                block,
                matches!(next, Some(Insert::Rows(_) | Insert::Nothing)),
            );
        }
        rows
    }

    fn insert(&mut self, insert: Option<&Insert>) {
        let own = |walked: &Self| walked.x.clone().narrow(1, 0, walked.own);
        match insert {
            None => {}
            Some(Insert::Rows(rows)) => {
                self.x = own(self);
                self.entered = Some(rows.clone());
            }
            Some(Insert::RowsInsteadOfPatches(rows)) => {
                let lost = rows.dims()[1];
                let x = own(self);
                let (class_token, first) = (x.clone().narrow(1, 0, 1), 1 + lost);
                let kept = x.narrow(1, first, self.own - first);
                self.x = Tensor::cat(vec![class_token, kept], 1);
                self.own -= lost;
                self.entered = Some(rows.clone());
            }
            Some(Insert::Nothing) => {
                self.x = own(self);
                self.entered = None;
            }
            Some(Insert::Summands(summands)) => {
                self.x = self.x.clone() + summands.clone();
            }
        }
    }

    /// One block. Of rows that have just entered and whose outputs would be `lost`, only keys and values are computed, and
    /// where all sequences have the same rows once for all.
    fn pass(&mut self, block: &Block, lost: bool) {
        if let (Some(rows), false) = (&self.entered, lost) {
            self.x = behind(self.x.clone(), rows.clone());
            self.entered = None;
        }
        let [batch, rows, _] = self.x.dims();
        let seen: Seen = match self.mask {
            Mask::None => None,
            Mask::Causal => Some((0..batch).flat_map(|_| 1..=rows).collect()), // [B · T]
        };
        let normed = block.attention_norm.forward(self.x.clone());
        let query = block.query.forward(normed.clone());
        let (key, value) = keys_and_values(block, normed, self.entered.take().as_ref());
        let attended = fused::attention(query, key, value, block.heads(), seen);
        self.x = block.finish(self.x.clone(), attended);
    }
}

/// Keys and values of normed rows `[B, T, d]` and of those that have entered, `[B or 1, p, d]` before the norm:
/// `[B, T + p, d]` each.
fn keys_and_values(
    block: &Block,
    normed: Tensor<3>,
    entered: Option<&Tensor<3>>,
) -> (Tensor<3>, Tensor<3>) {
    let key = block.key.forward(normed.clone());
    let value = block.value.forward(normed);
    let Some(entered) = entered else {
        return (key, value);
    };
    let normed = block.attention_norm.forward(entered.clone());
    (
        behind(key, block.key.forward(normed.clone())),
        behind(value, block.value.forward(normed)),
    )
}

/// Rows `[B or 1, p, d]` behind each sequence's own `[B, T, d]`.
fn behind(own: Tensor<3>, rows: Tensor<3>) -> Tensor<3> {
    let [batch, _, width] = own.dims();
    let [_, count, _] = rows.dims();
    Tensor::cat(vec![own, rows.expand([batch, count, width])], 1)
}

/// Row `read_out[b]` of each sequence: `[B, T, d]` -> `[B, d]`.
fn read_rows(x: Tensor<3>, read_out: &[usize]) -> Tensor<2> {
    let [batch, rows, width] = x.dims();
    let device = x.device();
    let places = (0..batch).map(|b| b * rows + read_out[b]);
    x.reshape([batch * rows, width])
        .select(0, indices(places, &device))
}
