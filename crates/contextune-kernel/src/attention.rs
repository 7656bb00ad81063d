//! Scaled dot-product attention, softmax(q·kᵀ/√c)·v, head by head: the scores of one head of one sequence are all that is
//! ever in memory.

use std::ops::Range;

use rayon::prelude::*;

use crate::ARCH;
use crate::product::{PackedMatrix, small_product};
use crate::rows::{softmax_in_place, sum};

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
            let seen = self.seen_by(b * self.queries + row);
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
            let [query, gradient] = [query, gradient].map(|rows| &rows[b * asking..][..asking]);
            let [key, value] = [key, value].map(|rows| &rows[b * asked..][..asked]);
            let (queries, keys, channels) = (heads.queries, heads.keys, heads.channels);
            let mut on_queries = vec![0.0; queries * channels];
            let mut on_keys = vec![0.0; keys * channels];
            for head in 0..heads.heads {
                let weights = heads.weights(b, head, query, key); // P

                // dV = Pᵀ·dO
                let turned = transpose(&weights, keys);
                let right =
                    PackedMatrix::of_rows(queries, channels, |row| heads.head(gradient, row, head));
                let left: Vec<_> = turned.chunks_exact(queries).collect();
                small_product(&left, &right, &mut on_keys);
                scatter(&heads, &on_keys, head, of_value);

                // dS = P ∘ (dP − Σ P ∘ dP) / √c with dP = dO·Vᵀ
                let right =
                    PackedMatrix::of_columns(channels, keys, |row| heads.head(value, row, head));
                let left: Vec<_> = (0..queries)
                    .map(|row| heads.head(gradient, row, head))
                    .collect();
                let mut scores = vec![0.0; queries * keys];
                small_product(&left, &right, &mut scores);
                let scale = heads.scale();
                for (scores, weights) in scores
                    .chunks_exact_mut(keys)
                    .zip(weights.chunks_exact(keys))
                {
                    let mean: f32 = scores.iter().zip(weights).map(|(s, w)| s * w).sum();
                    through_softmax(scores, weights, mean, scale);
                }

                // dQ = dS·K, dK = dSᵀ·Q
                let right = PackedMatrix::of_rows(keys, channels, |row| heads.head(key, row, head));
                let left: Vec<_> = scores.chunks_exact(keys).collect();
                small_product(&left, &right, &mut on_queries);
                scatter(&heads, &on_queries, head, of_query);
                let turned = transpose(&scores, keys);
                let right =
                    PackedMatrix::of_rows(queries, channels, |row| heads.head(query, row, head));
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

/// Keys and values that all sequences see before their own, `[rows, heads · channels]` each.
#[derive(Clone, Copy, Debug)]
pub struct Shared<'a> {
    /// Their keys.
    pub keys: &'a [f32],
    /// Their values.
    pub values: &'a [f32],
}

/// Sequences that one task works on, so that their queries fill the tiles of a product.
const SEQUENCES: usize = 32;

/// One head of the shared rows, packed for each product that they take part in.
struct SharedHead {
    rows: usize,
    /// Kᵀ, `[channels, rows]`.
    keys_across: PackedMatrix,
    /// K, `[rows, channels]`.
    keys: PackedMatrix,
    /// Vᵀ
    values_across: PackedMatrix,
    /// V
    values: PackedMatrix,
}

impl SharedHead {
    fn all(heads: &Heads<'_>, shared: Shared<'_>) -> Vec<Self> {
        let rows = shared.keys.len() / heads.width();
        (0..heads.heads)
            .map(|head| {
                let key = |row| heads.head(shared.keys, row, head);
                let value = |row| heads.head(shared.values, row, head);
                Self {
                    rows,
                    keys_across: PackedMatrix::of_columns(heads.channels, rows, key),
                    keys: PackedMatrix::of_rows(rows, heads.channels, key),
                    values_across: PackedMatrix::of_columns(heads.channels, rows, value),
                    values: PackedMatrix::of_rows(rows, heads.channels, value),
                }
            })
            .collect()
    }
}

/// Softmax weights of one head of some sequences.
struct SharedWeights {
    /// On the shared rows, `[queries of all sequences, shared rows]`.
    shared: Vec<f32>,
    /// On the sequence's own rows, `[queries of all sequences, keys]`.
    own: Vec<f32>,
}

impl Heads<'_> {
    /// The weights of the sequences from `first` on; `query` and `key` are their rows.
    fn shared_weights(
        &self,
        shared: &SharedHead,
        first: usize,
        head: usize,
        query: &[f32],
        key: &[f32],
    ) -> SharedWeights {
        let queries = query.len() / self.width();
        let of_head: Vec<_> = (0..queries)
            .map(|row| self.head(query, row, head))
            .collect();
        let mut on_shared = vec![0.0; queries * shared.rows];
        small_product(&of_head, &shared.keys_across, &mut on_shared);
        let mut on_own = vec![0.0; queries * self.keys];
        let scale = self.scale();
        ARCH.dispatch(
            #[inline(always)]
            || {
                let mut joined = vec![0.0; shared.rows + self.keys];
                for (row, query) in of_head.iter().enumerate() {
                    let own = &mut on_own[row * self.keys..(row + 1) * self.keys];
                    let others = &mut on_shared[row * shared.rows..(row + 1) * shared.rows];
                    let seen = self.seen_by(first * self.queries + row);
                    let first_key = row / self.queries * self.keys;
                    for (place, own) in own.iter_mut().enumerate().take(seen) {
                        *own = dot(query, self.head(key, first_key + place, head));
                    }
                    let joined = &mut joined[..shared.rows + seen];
                    joined[..shared.rows].copy_from_slice(others);
                    joined[shared.rows..].copy_from_slice(&own[..seen]);
                    softmax_in_place(joined, scale);
                    others.copy_from_slice(&joined[..shared.rows]);
                    own[..seen].copy_from_slice(&joined[shared.rows..]);
                }
            },
        );
        SharedWeights {
            shared: on_shared,
            own: on_own,
        }
    }

    /// How many of its sequence's keys a query sees; queries are counted over the batch.
    fn seen_by(&self, query: usize) -> usize {
        self.seen.map_or(self.keys, |seen| seen[query])
    }
}

/// Attention of sequences that all see some shared rows before their own; `[batch, queries, heads · channels]`.
pub fn attention_below(
    heads: Heads<'_>,
    shared: Shared<'_>,
    query: &[f32],
    key: &[f32],
    value: &[f32],
) -> Vec<f32> {
    let packed = SharedHead::all(&heads, shared);
    let (asking, asked) = (
        SEQUENCES * heads.queries * heads.width(),
        SEQUENCES * heads.keys * heads.width(),
    );
    let mut output = vec![0.0; query.len()];
    output
        .par_chunks_mut(asking)
        .zip(query.par_chunks(asking))
        .zip(key.par_chunks(asked))
        .zip(value.par_chunks(asked))
        .enumerate()
        .for_each(|(task, (((output, query), key), value))| {
            let queries = query.len() / heads.width();
            let mut attended = vec![0.0; queries * heads.channels];
            for (head, shared) in packed.iter().enumerate() {
                let weights = heads.shared_weights(shared, task * SEQUENCES, head, query, key);
                let left: Vec<_> = weights.shared.chunks_exact(shared.rows).collect();
                small_product(&left, &shared.values, &mut attended);
                ARCH.dispatch(
                    #[inline(always)]
                    || {
                        for row in 0..queries {
                            let first_key = row / heads.queries * heads.keys;
                            let place = row * heads.channels..(row + 1) * heads.channels;
                            for key in 0..heads.keys {
                                let weight = weights.own[row * heads.keys + key];
                                let value = heads.head(value, first_key + key, head);
                                add_scaled(&mut attended[place.clone()], weight, value);
                            }
                        }
                    },
                );
                scatter(&heads, &attended, head, output);
            }
        });
    output
}

/// Gradients of query, key, value, and of the shared keys and values, from the output's.
pub fn attention_below_gradients(
    heads: Heads<'_>,
    shared: Shared<'_>,
    [query, key, value]: [&[f32]; 3],
    gradient: &[f32],
) -> [Vec<f32>; 5] {
    let packed = SharedHead::all(&heads, shared);
    let (asking, asked) = (
        SEQUENCES * heads.queries * heads.width(),
        SEQUENCES * heads.keys * heads.width(),
    );
    let mut of_query = vec![0.0; query.len()];
    let mut of_key = vec![0.0; key.len()];
    let mut of_value = vec![0.0; value.len()];
    // Summed in the order of the tasks: the same on every run.
    let of_shared: Vec<[Vec<f32>; 2]> = of_query
        .par_chunks_mut(asking)
        .zip(of_key.par_chunks_mut(asked))
        .zip(of_value.par_chunks_mut(asked))
        .zip(query.par_chunks(asking))
        .zip(key.par_chunks(asked))
        .zip(value.par_chunks(asked))
        .zip(gradient.par_chunks(asking))
        .enumerate()
        .map(
            |(task, ((((((of_query, of_key), of_value), query), key), value), gradient))| {
                let mut of_shared = [shared.keys, shared.values].map(|rows| vec![0.0; rows.len()]);
                for (head, packed) in packed.iter().enumerate() {
                    let weights = heads.shared_weights(packed, task * SEQUENCES, head, query, key);
                    backward_of_head(
                        &heads,
                        packed,
                        head,
                        weights,
                        [query, key, value, gradient],
                        [&mut *of_query, &mut *of_key, &mut *of_value],
                        &mut of_shared,
                    );
                }
                of_shared
            },
        )
        .collect();
    let mut sums = [shared.keys, shared.values].map(|rows| vec![0.0; rows.len()]);
    for of_task in of_shared {
        for (sum, part) in sums.iter_mut().zip(of_task) {
            add_scaled(sum, 1.0, &part);
        }
    }
    let [of_shared_keys, of_shared_values] = sums;
    [of_query, of_key, of_value, of_shared_keys, of_shared_values]
}

/// The gradients of one head of some sequences.
fn backward_of_head(
    heads: &Heads<'_>,
    shared: &SharedHead,
    head: usize,
    weights: SharedWeights,
    [query, key, value, gradient]: [&[f32]; 4],
    [of_query, of_key, of_value]: [&mut [f32]; 3],
    [of_shared_keys, of_shared_values]: &mut [Vec<f32>; 2],
) {
    let queries = query.len() / heads.width();
    let scale = heads.scale();
    // dP = dO·Vᵀ
    let left: Vec<_> = (0..queries)
        .map(|row| heads.head(gradient, row, head))
        .collect();
    let mut on_shared = vec![0.0; queries * shared.rows];
    small_product(&left, &shared.values_across, &mut on_shared);
    ARCH.dispatch(
        #[inline(always)]
        || {
            let mut on_own = vec![0.0; heads.keys];
            for row in 0..queries {
                let first_key = row / heads.queries * heads.keys;
                let query = heads.head(query, row, head);
                let gradient = heads.head(gradient, row, head);
                let on_shared = &mut on_shared[row * shared.rows..(row + 1) * shared.rows];
                let shared_weights = &weights.shared[row * shared.rows..(row + 1) * shared.rows];
                let own_weights = &weights.own[row * heads.keys..(row + 1) * heads.keys];
                for (place, on_own) in on_own.iter_mut().enumerate() {
                    *on_own = dot(gradient, heads.head(value, first_key + place, head));
                }
                // dS = P ∘ (dP − Σ P ∘ dP) / √c
                let mean = dot(on_shared, shared_weights) + dot(&on_own, own_weights);
                through_softmax(on_shared, shared_weights, mean, scale);
                through_softmax(&mut on_own, own_weights, mean, scale);
                // dK += dSᵀ·Q, dV += Pᵀ·dO
                for (place, (score, weight)) in on_shared.iter().zip(shared_weights).enumerate() {
                    let place = heads.place(place, head);
                    add_scaled(&mut of_shared_keys[place.clone()], *score, query);
                    add_scaled(&mut of_shared_values[place], *weight, gradient);
                }
                let of_query = &mut of_query[heads.place(row, head)];
                for (place, (score, weight)) in on_own.iter().zip(own_weights).enumerate() {
                    let place = heads.place(first_key + place, head);
                    add_scaled(&mut of_key[place.clone()], *score, query);
                    add_scaled(&mut of_value[place.clone()], *weight, gradient);
                    add_scaled(of_query, *score, &key[place]);
                }
            }
        },
    );
    // dQ += dS·K
    let mut on_queries = vec![0.0; queries * heads.channels];
    let left: Vec<_> = on_shared.chunks_exact(shared.rows).collect();
    small_product(&left, &shared.keys, &mut on_queries);
    for (row, values) in on_queries.chunks_exact(heads.channels).enumerate() {
        add_scaled(&mut of_query[heads.place(row, head)], 1.0, values);
    }
}

/// From dP to dS = P ∘ (dP − mean) · scale, in place.
#[inline(always)]
fn through_softmax(scores: &mut [f32], weights: &[f32], mean: f32, scale: f32) {
    for (score, weight) in scores.iter_mut().zip(weights) {
        *score = weight * (*score - mean) * scale;
    }
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum(a.len().min(b.len()), |i| a[i] * b[i])
}

/// sum += factor · values
#[inline(always)]
fn add_scaled(sum: &mut [f32], factor: f32, values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += factor * value;
    }
}
