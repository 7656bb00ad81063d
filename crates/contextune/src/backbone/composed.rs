//! The operations of [`super::fused`] as compositions of Burn's own: what other devices than the processor compute, and what
//! the fused ones are tested against.

use burn::tensor::{Bool, Tensor, TensorData, activation, module::avg_pool2d, ops::AvgPoolOptions};

use super::Activation;
use super::kinds::Seen;

/// See [`super::fused::layer_norm`].
pub(super) fn layer_norm<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f32,
) -> Tensor<D> {
    let centred = x.clone() - x.mean_dim(D - 1);
    let variance = centred.clone().square().mean_dim(D - 1);
    centred / (variance + epsilon).sqrt() * weight.unsqueeze() + bias.unsqueeze()
}

/// See [`super::fused::activate`].
pub(super) fn activate<const D: usize>(u: Tensor<D>, activation: Activation) -> Tensor<D> {
    match activation {
        Activation::QuickGelu => u.clone() * activation::sigmoid(u * 1.702),
        Activation::Gelu => activation::gelu(u),
    }
}

/// See [`super::fused::halve`].
pub(super) fn halve(x: Tensor<4>) -> Tensor<4> {
    let x = x.permute([0, 3, 1, 2]);
    avg_pool2d(x, AvgPoolOptions::new([2, 2])).permute([0, 2, 3, 1])
}

/// See [`super::fused::attention_below`].
pub(super) fn attention_below(
    [query, key, value]: [Tensor<3>; 3],
    [shared_key, shared_value]: [Tensor<2>; 2],
    heads: usize,
    seen: Seen,
) -> Tensor<3> {
    let [batch, _, width] = query.dims();
    let [rows, _] = shared_key.dims();
    let join = |shared: Tensor<2>, own: Tensor<3>| {
        let shared = shared.unsqueeze::<3>().expand([batch, rows, width]);
        Tensor::cat(vec![shared, own], 1)
    };
    let seen = seen.map(|seen| seen.iter().map(|seen| rows + seen).collect());
    let (key, value) = (join(shared_key, key), join(shared_value, value));
    attention(query, key, value, heads, seen)
}

/// See [`super::fused::attention`].
pub(super) fn attention(
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    heads: usize,
    seen: Seen,
) -> Tensor<3> {
    let [batch, queries, width] = query.dims();
    let [_, keys, _] = key.dims();
    let device = query.device();
    let split = |x: Tensor<3>| {
        let [batch, rows, _] = x.dims();
        x.reshape([batch, rows, heads, width / heads])
            .swap_dims(1, 2) // [B, h, T, c]
    };
    let scores = split(query).matmul(split(key).swap_dims(2, 3)); // [B, h, Tq, Tk]
    let scores = scores / ((width / heads) as f32).sqrt();
    let scores = match seen {
        Some(seen) => {
            let hidden: Vec<bool> = seen
                .iter()
                .flat_map(|&seen| (0..keys).map(move |key| key >= seen))
                .collect();
            let hidden = TensorData::new(hidden, [batch, 1, queries, keys]);
            let hidden = Tensor::<4, Bool>::from_data(hidden, &device);
            scores.mask_fill(
                hidden.expand([batch, heads, queries, keys]),
                f32::NEG_INFINITY,
            )
        }
        None => scores,
    };
    activation::softmax(scores, 3)
        .matmul(split(value)) // [B, h, Tq, c]
        .swap_dims(1, 2)
        .reshape([batch, queries, width])
}
