//! The pre-norm transformer block in parts, so that each walk can compute just the rows it needs.

use burn::tensor::{Tensor, activation, module};

use super::frozen::FrozenMatrix;
use super::fused::Rectify;
use super::{Activation, ParameterSource, fused};

/// ε of every layer norm of CLIP.
pub const CLIP_EPSILON: f32 = 1e-5;

/// (x − mean) / √(variance + ε) · weight + bias over the last axis.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f32,
}

impl LayerNorm {
    /// Reads `{name}.weight` and `{name}.bias`, both `[width]`.
    pub fn build<S: ParameterSource>(
        source: &mut S,
        name: &str,
        width: usize,
        epsilon: f32,
    ) -> Result<Self, S::Error> {
        Ok(Self {
            weight: source.parameter(&format!("{name}.weight"), [width])?,
            bias: source.parameter(&format!("{name}.bias"), [width])?,
            epsilon,
        })
    }

    /// `[.., width]` -> `[.., width]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        fused::layer_norm(x, self.weight.clone(), self.bias.clone(), self.epsilon)
    }
}

/// x·Wᵀ + b, with the weight stored as `[outputs, inputs]` as PyTorch does.
#[derive(Clone, Debug)]
pub enum Linear {
    /// Weights that never change, packed.
    Frozen(FrozenMatrix),
    /// Weights that are being learned, or that lie on a device with products of its own.
    Plain {
        /// `[outputs, inputs]`
        weight: Box<Tensor<2>>,
        /// `[outputs]`
        bias: Box<Tensor<1>>,
    },
}

impl Linear {
    /// Reads `{name}.weight` `[outputs, inputs]` and `{name}.bias` `[outputs]`.
    pub fn build<S: ParameterSource>(
        source: &mut S,
        name: &str,
        inputs: usize,
        outputs: usize,
    ) -> Result<Self, S::Error> {
        let weight = source.parameter(&format!("{name}.weight"), [outputs, inputs])?;
        let bias = source.parameter(&format!("{name}.bias"), [outputs])?;
        Ok(Self::new(weight, bias))
    }

    /// Of a weight `[outputs, inputs]` and a bias `[outputs]`, which learn if gradients flow to them.
    pub(super) fn new(weight: Tensor<2>, bias: Tensor<1>) -> Self {
        match FrozenMatrix::new(&weight, &bias) {
            Some(layer) => Self::Frozen(layer),
            None => Self::Plain {
                weight: Box::new(weight),
                bias: Box::new(bias),
            },
        }
    }

    /// `[.., inputs]` -> `[.., outputs]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Frozen(layer) => fused::linear(x, layer, Rectify::No),
            Self::Plain { weight, bias } => {
                let weight = weight.as_ref().clone().transpose();
                module::linear(x, weight, Some(bias.as_ref().clone()))
            }
        }
    }

    /// The same; what is below zero becomes zero.
    pub(super) fn forward_rectified<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Frozen(layer) => fused::linear(x, layer, Rectify::Yes),
            Self::Plain { .. } => activation::relu(self.forward(x)),
        }
    }

    /// The same; what is below zero becomes zero, what is above six becomes six.
    pub(super) fn forward_within_six<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Frozen(layer) => fused::linear(x, layer, Rectify::Six),
            Self::Plain { .. } => self.forward(x).clamp(0.0, 6.0),
        }
    }

    /// `[.., inputs]` and `[.., outputs]` -> `[.., outputs]`: the layer's output added to `residual`.
    pub(super) fn forward_onto<const D: usize>(
        &self,
        x: Tensor<D>,
        residual: Tensor<D>,
    ) -> Tensor<D> {
        match self {
            Self::Frozen(layer) => fused::linear_add(x, residual, layer, Rectify::No),
            Self::Plain { .. } => residual + self.forward(x),
        }
    }

    /// The same; what of the sum is below zero becomes zero.
    pub(super) fn forward_onto_rectified<const D: usize>(
        &self,
        x: Tensor<D>,
        residual: Tensor<D>,
    ) -> Tensor<D> {
        match self {
            Self::Frozen(layer) => fused::linear_add(x, residual, layer, Rectify::Yes),
            Self::Plain { .. } => activation::relu(residual + self.forward(x)),
        }
    }
}

/// What the blocks of a tower have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockConfig {
    /// Width d of a row.
    pub width: usize,
    /// Width of the MLP's hidden layer.
    pub mlp_width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Activation of the MLP.
    pub activation: Activation,
    /// ε of the norms.
    pub epsilon: f32,
    /// Whether what attention and MLP add is multiplied by a learned factor for each channel (Touvron et al. 2021,
    /// "Going deeper with Image Transformers", §3).
    pub layer_scale: bool,
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
    /// Reads the block's tensors below `{name}.`, in OpenAI's layout (query, key and value in one matrix).
    pub fn build<S: ParameterSource>(
        source: &mut S,
        name: &str,
        config: &BlockConfig,
    ) -> Result<Self, S::Error> {
        let BlockConfig {
            width,
            mlp_width,
            heads,
            activation,
            epsilon,
            layer_scale,
        } = *config;
        let weight =
            source.parameter(&format!("{name}.attn.in_proj_weight"), [3 * width, width])?;
        let bias = source.parameter(&format!("{name}.attn.in_proj_bias"), [3 * width])?;
        let part = |which: usize| {
            let weight: Tensor<2> = weight.clone();
            let bias: Tensor<1> = bias.clone();
            let weight = weight.narrow(0, which * width, width);
            Linear::new(weight, bias.narrow(0, which * width, width))
        };
        let mut scaled = |layer: &str, inputs: usize, scale: &str| {
            let weight =
                source.parameter::<2>(&format!("{name}.{layer}.weight"), [width, inputs])?;
            let bias = source.parameter::<1>(&format!("{name}.{layer}.bias"), [width])?;
            if !layer_scale {
                return Ok(Linear::new(weight, bias));
            }
            // γ·(Wx + b) is a linear layer too.
            let factor: Tensor<1> = source.parameter(&format!("{name}.{scale}.gamma"), [width])?;
            let rows = factor.clone().unsqueeze_dim::<2>(1); // [d, 1]
            Ok(Linear::new(weight * rows, bias * factor))
        };
        let output = scaled("attn.out_proj", width, "ls_1")?;
        let contract = scaled("mlp.c_proj", mlp_width, "ls_2")?;
        Ok(Self {
            attention_norm: LayerNorm::build(source, &format!("{name}.ln_1"), width, epsilon)?,
            query: part(0),
            key: part(1),
            value: part(2),
            output,
            mlp_norm: LayerNorm::build(source, &format!("{name}.ln_2"), width, epsilon)?,
            expand: Linear::build(source, &format!("{name}.mlp.c_fc"), width, mlp_width)?,
            contract,
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
        let x = self.output.forward_onto(attended, x);
        let hidden = self.expand.forward(self.mlp_norm.forward(x.clone())); // [.., 4d]
        let hidden = fused::activate(hidden, self.activation);
        self.contract.forward_onto(hidden, x)
    }
}
