//! EfficientNet-Lite (Tan & Le 2019, "EfficientNet", in the form for small devices: without squeeze-and-excitation, ReLU6
//! everywhere; tensorflow/tpu, `efficientnet/lite`). It is frozen: norms are folded into the convolutions.

use burn::tensor::{Tensor, module, ops::ConvOptions};

use super::frozen::FrozenDepthwise;
use super::transformer::Linear;
use super::{EfficientNetConfig, InvertedResidual, fused};
use crate::parameters::ParameterSource;

/// Added to the variance in every batch norm.
const EPSILON: f32 = 1e-3;
const STEM_KERNEL: usize = 3;
const STEM_STRIDE: usize = 2;

/// Pictures to image features through a stem, blocks of widened depthwise convolutions and a mean over all places.
#[derive(Clone, Debug)]
pub struct EfficientNet {
    /// `[channels, 3, 3, 3]`
    stem_weight: Tensor<4>,
    /// `[channels]`
    stem_bias: Tensor<1>,
    blocks: Vec<Block>,
    head: Linear,
}

#[derive(Clone, Debug)]
struct Block {
    /// Widens the channels; absent where they stay.
    expand: Option<Linear>,
    depthwise: Depthwise,
    project: Linear,
    /// Whether the input is added to the output.
    residual: bool,
}

/// A window of its own for each channel, cut off at zero and six.
#[derive(Clone, Debug)]
enum Depthwise {
    Frozen(FrozenDepthwise),
    Plain {
        /// `[channels, 1, kernel, kernel]`
        weight: Box<Tensor<4>>,
        /// `[channels]`
        bias: Box<Tensor<1>>,
        stride: usize,
    },
}

impl EfficientNet {
    /// Reads all parameters below `visual.`.
    pub fn build<S: ParameterSource>(
        source: &mut S,
        config: &EfficientNetConfig,
    ) -> Result<Self, S::Error> {
        let stem_shape = [config.stem, 3, STEM_KERNEL, STEM_KERNEL];
        let (stem_weight, stem_bias) =
            folded(source, "visual._conv_stem", "visual._bn0", stem_shape)?;
        let blocks = config
            .blocks
            .iter()
            .enumerate()
            .map(|(number, block)| Block::build(source, &format!("visual._blocks.{number}"), block))
            .collect::<Result<_, _>>()?;
        let last = config
            .blocks
            .last()
            .map_or(config.stem, |block| block.outputs);
        let shape = [config.head, last];
        Ok(Self {
            stem_weight,
            stem_bias,
            blocks,
            head: pointwise(source, "visual._conv_head", "visual._bn1", shape)?,
        })
    }

    /// Normalised pixels `[B, 3, H, W]` -> image features `[B, D]`.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<2> {
        let pixels = padded(pixels, STEM_KERNEL, STEM_STRIDE);
        let options = ConvOptions::new([STEM_STRIDE; 2], [0, 0], [1, 1], 1);
        let bias = Some(self.stem_bias.clone());
        let mut x = module::conv2d(pixels, self.stem_weight.clone(), bias, options)
            .clamp(0.0, 6.0)
            .permute([0, 2, 3, 1]); // [B, H / 2, W / 2, channels]
        for block in &self.blocks {
            x = block.forward(x);
        }
        let x = self.head.forward_within_six(x);
        let [batch, height, width, channels] = x.dims();
        x.reshape([batch, height * width, channels])
            .mean_dim(1)
            .reshape([batch, channels])
    }
}

impl Block {
    fn build<S: ParameterSource>(
        source: &mut S,
        name: &str,
        config: &InvertedResidual,
    ) -> Result<Self, S::Error> {
        let InvertedResidual {
            kernel,
            stride,
            inputs,
            hidden,
            outputs,
        } = *config;
        let part = |part: &str| format!("{name}.{part}");
        let expand = match hidden == inputs {
            true => None,
            false => {
                let shape = [hidden, inputs];
                let norm = part("_bn0");
                Some(pointwise(source, &part("_expand_conv"), &norm, shape)?)
            }
        };
        let shape = [hidden, 1, kernel, kernel];
        let (weight, bias) = folded(source, &part("_depthwise_conv"), &part("_bn1"), shape)?;
        let shape = [outputs, hidden];
        Ok(Self {
            expand,
            depthwise: match FrozenDepthwise::new(&weight, &bias, stride) {
                Some(layer) => Depthwise::Frozen(layer),
                None => Depthwise::Plain {
                    weight: Box::new(weight),
                    bias: Box::new(bias),
                    stride,
                },
            },
            project: pointwise(source, &part("_project_conv"), &part("_bn2"), shape)?,
            residual: stride == 1 && inputs == outputs,
        })
    }

    /// `[B, H, W, inputs]` -> `[B, H / stride, W / stride, outputs]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let hidden = match &self.expand {
            Some(expand) => expand.forward_within_six(x.clone()),
            None => x.clone(),
        };
        let hidden = self.depthwise.forward(hidden);
        match self.residual {
            true => self.project.forward_onto(hidden, x),
            false => self.project.forward(hidden),
        }
    }
}

impl Depthwise {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Frozen(layer) => fused::depthwise(x, layer),
            Self::Plain {
                weight,
                bias,
                stride,
            } => depthwise(x, weight.as_ref().clone(), bias.as_ref().clone(), *stride),
        }
    }
}

/// A depthwise convolution of Burn's own operations, `[B, H, W, C]` -> `[B, H / stride, W / stride, C]`, cut off at zero and
/// six.
pub(super) fn depthwise(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    stride: usize,
) -> Tensor<4> {
    let [channels, _, kernel, _] = weight.dims();
    let x = padded(x.permute([0, 3, 1, 2]), kernel, stride);
    let options = ConvOptions::new([stride; 2], [0, 0], [1, 1], channels);
    module::conv2d(x, weight, Some(bias), options)
        .clamp(0.0, 6.0)
        .permute([0, 2, 3, 1])
}

/// TensorFlow's padding with zeros: ⌈side / stride⌉ windows fit, an odd pixel behind; `[B, C, H, W]`.
fn padded(x: Tensor<4>, kernel: usize, stride: usize) -> Tensor<4> {
    let mut x = x;
    for axis in [2, 3] {
        let shape = x.dims();
        let side = shape[axis];
        let total = ((side.div_ceil(stride) - 1) * stride + kernel).saturating_sub(side);
        let zeros = |length: usize| {
            let mut shape = shape;
            shape[axis] = length;
            Tensor::<4>::zeros(shape, &x.device())
        };
        let parts = [zeros(total / 2), x.clone(), zeros(total - total / 2)];
        let parts = parts.into_iter().filter(|part| part.dims()[axis] > 0);
        x = Tensor::cat(parts.collect(), axis);
    }
    x
}

/// A convolution without a bias and the batch norm behind it, as a weight and a bias.
fn folded<S: ParameterSource>(
    source: &mut S,
    convolution: &str,
    norm: &str,
    shape: [usize; 4],
) -> Result<(Tensor<4>, Tensor<1>), S::Error> {
    let weight: Tensor<4> = source.parameter(&format!("{convolution}.weight"), shape)?;
    let mut of_norm = |part: &str| source.parameter::<1>(&format!("{norm}.{part}"), [shape[0]]);
    let (factor, shift) = (of_norm("weight")?, of_norm("bias")?);
    let (mean, variance) = (of_norm("running_mean")?, of_norm("running_var")?);
    let factor = factor / (variance + EPSILON).sqrt();
    let bias = shift - mean * factor.clone();
    Ok((weight * factor.reshape([shape[0], 1, 1, 1]), bias))
}

/// The same for windows of one pixel: a linear layer on the channels.
fn pointwise<S: ParameterSource>(
    source: &mut S,
    convolution: &str,
    norm: &str,
    [outputs, inputs]: [usize; 2],
) -> Result<Linear, S::Error> {
    let (weight, bias) = folded(source, convolution, norm, [outputs, inputs, 1, 1])?;
    Ok(Linear::new(weight.reshape([outputs, inputs]), bias))
}
