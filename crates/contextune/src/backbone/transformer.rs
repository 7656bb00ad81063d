//! The pre-norm transformer block in parts, so that each walk can compute just the rows it needs.

use burn::tensor::{Bool, Tensor, activation, module};

use super::{Activation, ParameterSource, fused};

/// (x − mean) / √(variance + 1e-5) · weight + bias over the last axis.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor<1>,
    bias: Tensor<1>,
}

impl LayerNorm {
    /// Reads `{name}.weight` and `{name}.bias`, both `[width]`.
    pub fn build<S: ParameterSource>(
        source: &mut S,
        name: &str,
        width: usize,
    ) -> Result<Self, S::Error> {
        Ok(Self {
            weight: source.parameter(&format!("{name}.weight"), [width])?,
            bias: source.parameter(&format!("{name}.bias"), [width])?,
        })
    }

    /// `[.., width]` -> `[.., width]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        fused::layer_norm(x, self.weight.clone(), self.bias.clone())
    }
}

/// x·Wᵀ + b, with the weight stored as `[outputs, inputs]` as PyTorch does.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor<2>,
    bias: Tensor<1>,
}

impl Linear {
    /// Reads `{name}.weight` `[outputs, inputs]` and `{name}.bias` `[outputs]`.
    pub fn build<S: ParameterSource>(
        source: &mut S,
        name: &str,
        inputs: usize,
        outputs: usize,
    ) -> Result<Self, S::Error> {
        Ok(Self {
            weight: source.parameter(&format!("{name}.weight"), [outputs, inputs])?,
            bias: source.parameter(&format!("{name}.bias"), [outputs])?,
        })
    }

    /// `[.., inputs]` -> `[.., outputs]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        module::linear(x, self.weight.clone().transpose(), Some(self.bias.clone()))
    }

    /// The layer that computes outputs `first..first + count` alone.
    fn outputs(&self, first: usize, count: usize) -> Self {
        Self {
            weight: self.weight.clone().narrow(0, first, count),
            bias: self.bias.clone().narrow(0, first, count),
        }
    }
}

/// One block: x += attention(norm(x)); x += contract(activation(expand(norm(x)))).
#[derive(Clone, Debug)]
pub struct Block {
    /// Norm before the attention.
    pub attention_norm: LayerNorm,
    /// Attention queries, width d -> d.
    pub query: Linear,
    /// Attention keys, width d -> d.
    pub key: Linear,
    /// Attention values, width d -> d.
    pub value: Linear,
    output: Linear,
    mlp_norm: LayerNorm,
    expand: Linear,
    contract: Linear,
    activation: Activation,
    heads: usize,
}

impl Block {
    /// Reads the block's twelve tensors below `{name}.`, in OpenAI's layout (query, key and value in one matrix).
    pub fn build<S: ParameterSource>(
        source: &mut S,
        name: &str,
        width: usize,
        heads: usize,
        activation: Activation,
    ) -> Result<Self, S::Error> {
        let in_projection = Linear {
            weight: source.parameter(&format!("{name}.attn.in_proj_weight"), [3 * width, width])?,
            bias: source.parameter(&format!("{name}.attn.in_proj_bias"), [3 * width])?,
        };
        Ok(Self {
            attention_norm: LayerNorm::build(source, &format!("{name}.ln_1"), width)?,
            query: in_projection.outputs(0, width),
            key: in_projection.outputs(width, width),
            value: in_projection.outputs(2 * width, width),
            output: Linear::build(source, &format!("{name}.attn.out_proj"), width, width)?,
            mlp_norm: LayerNorm::build(source, &format!("{name}.ln_2"), width)?,
            expand: Linear::build(source, &format!("{name}.mlp.c_fc"), width, 4 * width)?,
            contract: Linear::build(source, &format!("{name}.mlp.c_proj"), 4 * width, width)?,
            activation,
            heads,
        })
    }

    /// Number of attention heads.
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// What follows the attention: both residual sums and the MLP, row by row.
    ///
    /// `x` and `attended` are `[.., width]`: the block's input and the heads' concatenated outputs, for the same rows.
    pub fn finish<const D: usize>(&self, x: Tensor<D>, attended: Tensor<D>) -> Tensor<D> {
        let x = x + self.output.forward(attended);
        let hidden = self.expand.forward(self.mlp_norm.forward(x.clone())); // [.., 4d]
        x + self.contract.forward(activate(hidden, self.activation))
    }
}

fn activate<const D: usize>(u: Tensor<D>, kind: Activation) -> Tensor<D> {
    match kind {
        Activation::QuickGelu => fused::quick_gelu(u),
        Activation::Gelu => activation::gelu(u),
    }
}

/// `[B, T, d]` -> `[B, heads, T, d / heads]`.
pub fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, rows, width] = x.dims();
    x.reshape([batch, rows, heads, width / heads])
        .swap_dims(1, 2)
}

/// `[B, heads, T, c]` -> `[B, T, heads · c]`.
pub fn merge_heads(x: Tensor<4>) -> Tensor<3> {
    let [batch, heads, rows, channels] = x.dims();
    x.swap_dims(1, 2).reshape([batch, rows, heads * channels])
}

/// Scaled dot-product attention, softmax(q·kᵀ/√c)·v.
///
/// `query` is `[B, h, Tq, c]`, `key` and `value` are `[B, h, Tk, c]`; `hidden`, broadcast to `[B, h, Tq, Tk]`, is true
/// where a row may not look. Every row must see at least one key.
pub fn attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    hidden: Option<Tensor<4, Bool>>,
) -> Tensor<4> {
    let scores = scale_query(query).matmul(key.swap_dims(2, 3)); // [B, h, Tq, Tk]
    let scores = match hidden {
        Some(hidden) => {
            let shape = scores.dims();
            scores.mask_fill(hidden.expand(shape), f32::NEG_INFINITY)
        }
        None => scores,
    };
    fused::softmax(scores).matmul(value)
}

/// q/√c: scaling the queries costs less than scaling the scores. The last axis is c.
pub fn scale_query<const D: usize>(query: Tensor<D>) -> Tensor<D> {
    let channels = query.dims()[D - 1];
    query / (channels as f32).sqrt()
}
