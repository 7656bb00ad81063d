//! The pre-norm transformer block in parts, so that each walk can compute just the rows it needs.

use burn::tensor::{Tensor, TensorData, activation, module};

use super::frozen::FrozenMatrix;
use super::kinds::Rectify;
use super::{Activation, fused};
use crate::parameters::ParameterSource;

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

    /// The same below the parameters that `source` has of those that begin with `{name}.`.
    pub(super) fn with<S: ParameterSource>(
        &self,
        source: &mut S,
        name: &str,
        has: impl Fn(&str) -> bool,
    ) -> Result<Self, S::Error> {
        let mut norm = self.clone();
        let width = norm.weight.dims();
        for (part, tensor) in [("weight", &mut norm.weight), ("bias", &mut norm.bias)] {
            let name = format!("{name}.{part}");
            if has(&name) {
                *tensor = source.parameter(&name, width)?;
            }
        }
        Ok(norm)
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
    /// Weights that never change below a bias that is being learned.
    Shifted {
        /// With the bias that was.
        layer: FrozenMatrix,
        /// What the bias became, less what it was, `[outputs]`.
        shift: Box<Tensor<1>>,
    },
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

    /// The same weights below another bias, `[outputs]`.
    fn with_bias(&self, bias: Tensor<1>) -> Self {
        match self {
            Self::Frozen(layer) | Self::Shifted { layer, .. } => {
                let values = TensorData::new(layer.bias().to_vec(), [layer.bias().len()]);
                let shift = Box::new(bias.clone() - Tensor::from_data(values, &bias.device()));
                Self::Shifted {
                    layer: layer.clone(),
                    shift,
                }
            }
            Self::Plain { weight, .. } => Self::Plain {
                weight: weight.clone(),
                bias: Box::new(bias),
            },
        }
    }

    /// `[.., inputs]` -> `[.., outputs]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Frozen(layer) => fused::linear(x, layer, Rectify::No),
            Self::Shifted { layer, shift } => {
                fused::linear(x, layer, Rectify::No) + shift.as_ref().clone().unsqueeze()
            }
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
            Self::Shifted { .. } | Self::Plain { .. } => activation::relu(self.forward(x)),
        }
    }

    /// The same; what is below zero becomes zero, what is above six becomes six.
    pub(super) fn forward_within_six<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Frozen(layer) => fused::linear(x, layer, Rectify::Six),
            Self::Shifted { .. } | Self::Plain { .. } => self.forward(x).clamp(0.0, 6.0),
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
            Self::Shifted { .. } | Self::Plain { .. } => residual + self.forward(x),
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
            Self::Shifted { .. } | Self::Plain { .. } => {
                activation::relu(residual + self.forward(x))
            }
        }
    }
}

/// Width of an adapter in a tower of width `width`: an eighth, as KMnP/vpt has it.
pub const fn adapter_width(width: usize) -> usize {
    if width < 8 { 1 } else { width / 8 }
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
    /// Factors that `output` and `contract` contain, `[d]`.
    attention_scale: Option<Tensor<1>>,
    mlp_scale: Option<Tensor<1>>,
    adapter: Option<Adapter>,
    config: BlockConfig,
}

/// A narrow network behind a block's MLP: x + up(GELU(down(x))) (Pfeiffer et al. 2021).
#[derive(Clone, Debug)]
struct Adapter {
    down: Linear,
    up: Linear,
}

impl Adapter {
    fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let narrow = fused::activate(self.down.forward(x.clone()), Activation::Gelu);
        self.up.forward_onto(narrow, x)
    }
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
            epsilon,
            layer_scale,
            ..
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
        let mut scale = |part: &str| match layer_scale {
            true => Ok(Some(
                source.parameter(&format!("{name}.{part}.gamma"), [width])?,
            )),
            false => Ok(None),
        };
        let (attention_scale, mlp_scale) = (scale("ls_1")?, scale("ls_2")?);
        let mut scaled = |layer: &str, inputs: usize, scale: &Option<Tensor<1>>| {
            let weight =
                source.parameter::<2>(&format!("{name}.{layer}.weight"), [width, inputs])?;
            let bias = source.parameter::<1>(&format!("{name}.{layer}.bias"), [width])?;
            Ok(match scale {
                // γ·(Wx + b) is a linear layer too.
                Some(factor) => {
                    let rows = factor.clone().unsqueeze_dim::<2>(1); // [d, 1]
                    Linear::new(weight * rows, bias * factor.clone())
                }
                None => Linear::new(weight, bias),
            })
        };
        let output = scaled("attn.out_proj", width, &attention_scale)?;
        let contract = scaled("mlp.c_proj", mlp_width, &mlp_scale)?;
        Ok(Self {
            attention_norm: LayerNorm::build(source, &format!("{name}.ln_1"), width, epsilon)?,
            query: part(0),
            key: part(1),
            value: part(2),
            output,
            mlp_norm: LayerNorm::build(source, &format!("{name}.ln_2"), width, epsilon)?,
            expand: Linear::build(source, &format!("{name}.mlp.c_fc"), width, mlp_width)?,
            contract,
            attention_scale,
            mlp_scale,
            adapter: None,
            config: *config,
        })
    }

    /// The same block with those parameters in the place of its own that `source` has: all of them, some of the biases, or
    /// those of an adapter, which it then gets.
    pub(super) fn with<S: ParameterSource>(
        &self,
        source: &mut S,
        name: &str,
        has: impl Fn(&str) -> bool,
    ) -> Result<Self, S::Error> {
        if has(&format!("{name}.attn.in_proj_weight")) {
            return Self::build(source, name, &self.config);
        }
        let BlockConfig {
            width, mlp_width, ..
        } = self.config;
        let mut block = self.clone();
        block.attention_norm = self
            .attention_norm
            .with(source, &format!("{name}.ln_1"), &has)?;
        block.mlp_norm = self.mlp_norm.with(source, &format!("{name}.ln_2"), &has)?;
        let joined = format!("{name}.attn.in_proj_bias");
        if has(&joined) {
            let joined: Tensor<1> = source.parameter(&joined, [3 * width])?;
            let layers = [&mut block.query, &mut block.key, &mut block.value];
            for (part, layer) in layers.into_iter().enumerate() {
                *layer = layer.with_bias(joined.clone().narrow(0, part * width, width));
            }
        }
        for (part, layer, outputs, scale) in [
            (
                "attn.out_proj",
                &mut block.output,
                width,
                &self.attention_scale,
            ),
            ("mlp.c_fc", &mut block.expand, mlp_width, &None),
            ("mlp.c_proj", &mut block.contract, width, &self.mlp_scale),
        ] {
            let bias = format!("{name}.{part}.bias");
            if has(&bias) {
                let bias: Tensor<1> = source.parameter(&bias, [outputs])?;
                *layer = layer.with_bias(match scale {
                    Some(factor) => bias * factor.clone(),
                    None => bias,
                });
            }
        }
        if has(&format!("{name}.adapter_downsample.weight")) {
            let mut part = |part: &str, shape: [usize; 2]| {
                let name = format!("{name}.adapter_{part}");
                Linear::build(source, &name, shape[1], shape[0])
            };
            let narrow = adapter_width(width);
            block.adapter = Some(Adapter {
                down: part("downsample", [narrow, width])?,
                up: part("upsample", [width, narrow])?,
            });
        }
        Ok(block)
    }

    /// Number of attention heads.
    pub fn heads(&self) -> usize {
        self.config.heads
    }

    /// What follows the attention: both residual sums and the MLP, row by row.
    ///
    /// `x` and `attended` are `[.., width]`: the block's input and the heads' concatenated outputs, for the same rows.
    pub fn finish<const D: usize>(&self, x: Tensor<D>, attended: Tensor<D>) -> Tensor<D> {
        let x = self.output.forward_onto(attended, x);
        let hidden = self.expand.forward(self.mlp_norm.forward(x.clone())); // [.., 4d]
        let hidden = fused::activate(hidden, self.config.activation);
        match &self.adapter {
            None => self.contract.forward_onto(hidden, x),
            Some(adapter) => x + adapter.forward(self.contract.forward(hidden)),
        }
    }
}
