//! Scaled dot-product attention, softmax(q·kᵀ/√c)·v, head by head: the scores of one head of one sequence are all that is
//! ever in memory.

use std::ops::Range;

use rayon::prelude::*;

use crate::ARCH;
use crate::product::{PackedMatrix, small_product};
use crate::rows::softmax_in_place;

/// How queries, keys and values lie: `[batch, queries, heads · channels]` and `[batch, keys, heads · channels]`.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// Rows of a sequence that ask.
    pub queries: usize,
    /// Rows of a sequence that are asked.
    pub keys: usize,
    /// Heads in a row.
    pub heads: usize,
    /// Numbers of a head.
    pub channels: usize,
    /// How many keys from the first on each query sees, `[batch · queries]`; absent: all.
    pub seen: Option<&'a [usize]>,
}

impl Heads<'_> {
    fn width(&self) -> usize {
        self.heads * self.channels
    }

    /// The numbers of one head in one row.
    fn head<'a>(&self, rows: &'a [f32], row: usize, head: usize) -> &'a [f32] {
        &rows[self.place(row, head)]
    }

    fn place(&self, row: usize, head: usize) -> Range<usize> {
        let start = row * self.width() + head * self.channels;
        start..start + self.channels
    }

    /// Softmax weights of one head of sequence `b`, `[queries, keys]`; `query` and `key` are the sequence's own rows.
    fn weights(&self, b: usize, head: usize, query: &[f32], key: &[f32]) -> Vec<f32> {
        let keys =
            PackedMatrix::of_columns(self.channels, self.keys, |row| self.head(key, row, head));
        let mut scores = vec![0.0; self.queries * self.keys];
        let queries: Vec<_> = (0..self.queries)
            .map(|row| self.head(query, row, head))
            .collect();
        small_product(&queries, &keys, &mut scores);
        let scale = self.scale();
        for (row, scores) in scores.chunks_exact_mut(self.keys).enumerate() {
            let seen = match self.seen {
                Some(seen) => seen[b * self.queries + row],
                None => self.keys,
            };
            let (seen, hidden) = scores.split_at_mut(seen);
            ARCH.dispatch(
                #[inline(always)]
                || softmax_in_place(seen, scale),
            );
            hidden.fill(0.0);
        }
        scores
    }

    fn scale(&self) -> f32 {
        1.0 / (self.channels as f32).sqrt()
    }
}

/// `[batch, queries, heads · channels]`.
pub fn attention(heads: Heads<'_>, query: &[f32], key: &[f32], value: &[f32]) -> Vec<f32> {
    let mut output = vec![0.0; query.len()];
    let width = heads.width();
    output
        .par_chunks_mut(heads.queries * width)
        .zip(query.par_chunks(heads.queries * width))
        .zip(key.par_chunks(heads.keys * width))
        .zip(value.par_chunks(heads.keys * width))
        .enumerate()
        .for_each(|(b, (((output, query), key), value))| {
            let mut attended = vec![0.0; heads.queries * heads.channels];
            for head in 0..heads.heads {
                let weights = heads.weights(b, head, query, key);
                let values = PackedMatrix::of_rows(heads.keys, heads.channels, |row| {
                    heads.head(value, row, head)
                });
                let weights: Vec<_> = weights.chunks_exact(heads.keys).collect();
                small_product(&weights, &values, &mut attended);
                scatter(&heads, &attended, head, output);
            }
        });
    output
}

/// Gradients of query, key and value from the output's.
pub fn attention_gradients(
    heads: Heads<'_>,
    query: &[f32],
    key: &[f32],
    value: &[f32],
    gradient: &[f32],
) -> [Vec<f32>; 3] {
    let mut of_query = vec![0.0; query.len()];
    let mut of_key = vec![0.0; key.len()];
    let mut of_value = vec![0.0; value.len()];
    let (asking, asked) = (heads.queries * heads.width(), heads.keys * heads.width());
    of_query
        .par_chunks_mut(asking)
        .zip(of_key.par_chunks_mut(asked))
        .zip(of_value.par_chunks_mut(asked))
        .enumerate()
        .for_each(|(b, ((of_query, of_key), of_value))| {
            let own = |rows: &'_ [f32], length: usize| rows[b * length..(b + 1) * length].to_vec();
            let (query, gradient) = (own(query, asking), own(gradient, asking));
            let (key, value) = (own(key, asked), own(value, asked));
            let (queries, keys, channels) = (heads.queries, heads.keys, heads.channels);
            let mut on_queries = vec![0.0; queries * channels];
            let mut on_keys = vec![0.0; keys * channels];
            for head in 0..heads.heads {
                let weights = heads.weights(b, head, &query, &key); // P

                // dV = Pᵀ·dO
                let turned = transpose(&weights, keys);
                let right = PackedMatrix::of_rows(queries, channels, |row| {
                    heads.head(&gradient, row, head)
                });
                let left: Vec<_> = turned.chunks_exact(queries).collect();
                small_product(&left, &right, &mut on_keys);
                scatter(&heads, &on_keys, head, of_value);

                // dS = P ∘ (dP − Σ P ∘ dP) / √c with dP = dO·Vᵀ
                let right =
                    PackedMatrix::of_columns(channels, keys, |row| heads.head(&value, row, head));
                let left: Vec<_> = (0..queries)
                    .map(|row| heads.head(&gradient, row, head))
                    .collect();
                let mut scores = vec![0.0; queries * keys];
                small_product(&left, &right, &mut scores);
                let scale = heads.scale();
                for (scores, weights) in scores
                    .chunks_exact_mut(keys)
                    .zip(weights.chunks_exact(keys))
                {
                    let mean: f32 = scores.iter().zip(weights).map(|(s, w)| s * w).sum();
                    for (score, weight) in scores.iter_mut().zip(weights) {
                        *score = weight * (*score - mean) * scale;
                    }
                }

                // dQ = dS·K, dK = dSᵀ·Q
                let right =
                    PackedMatrix::of_rows(keys, channels, |row| heads.head(&key, row, head));
                let left: Vec<_> = scores.chunks_exact(keys).collect();
                small_product(&left, &right, &mut on_queries);
                scatter(&heads, &on_queries, head, of_query);
                let turned = transpose(&scores, keys);
                let right =
                    PackedMatrix::of_rows(queries, channels, |row| heads.head(&query, row, head));
                let left: Vec<_> = turned.chunks_exact(queries).collect();
                small_product(&left, &right, &mut on_keys);
                scatter(&heads, &on_keys, head, of_key);
            }
        });
    [of_query, of_key, of_value]
}

/// One head's rows `[rows, channels]` to their places in `[rows, heads · channels]`.
fn scatter(heads: &Heads<'_>, of_head: &[f32], head: usize, rows: &mut [f32]) {
    for (row, values) in of_head.chunks_exact(heads.channels).enumerate() {
        rows[heads.place(row, head)].copy_from_slice(values);
    }
}

/// `[rows, columns]` -> `[columns, rows]`.
fn transpose(matrix: &[f32], columns: usize) -> Vec<f32> {
    let rows = matrix.len() / columns;
    let mut turned = vec![0.0; matrix.len()];
    for (row, values) in matrix.chunks_exact(columns).enumerate() {
        for (place, value) in turned[row..].iter_mut().step_by(rows).zip(values) {
            *place = *value;
        }
    }
    turned
}
