//! CLIP's modified ResNet (Radford et al. 2021, §2.4): three-convolution stem, anti-aliased strides, attention pooling.

use burn::tensor::{Tensor, activation, module::conv2d, ops::ConvOptions};

use super::frozen::FrozenConvolution;
use super::transformer::Linear;
use super::{ResNetConfig, fused};
use crate::parameters::ParameterSource;

/// Added to the running variance in every batch norm of CLIP.
const BATCH_NORM_EPSILON: f64 = 1e-5;
/// A bottleneck's output has this many times the channels of its inner convolutions.
const EXPANSION: usize = 4;

/// Pictures to image features through bottleneck blocks and an attention pool.
#[derive(Clone, Debug)]
pub struct ModifiedResNet {
    stem: [Convolution; 3],
    stages: Vec<Bottleneck>,
    pool: AttentionPool,
}

impl ModifiedResNet {
    /// Reads all parameters below `visual.`; `embedding_width` is D of the joint space.
    pub fn build<S: ParameterSource>(
        source: &mut S,
        config: &ResNetConfig,
        embedding_width: usize,
    ) -> Result<Self, S::Error> {
        let width = config.width;
        let half = width / 2;
        let stem = [
            Convolution::build(source, ("visual.conv1", "visual.bn1"), 3, half, 2)?,
            Convolution::build(source, ("visual.conv2", "visual.bn2"), half, half, 1)?,
            Convolution::build(source, ("visual.conv3", "visual.bn3"), half, width, 1)?,
        ];
        let mut stages = Vec::new();
        let mut inputs = width;
        for (stage, &blocks) in config.blocks.iter().enumerate() {
            let planes = width << stage;
            for block in 0..blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let name = format!("visual.layer{}.{block}", stage + 1);
                stages.push(Bottleneck::build(source, &name, inputs, planes, stride)?);
                inputs = planes * EXPANSION;
            }
        }
        let side = config.image_size / 32;
        Ok(Self {
            stem,
            stages,
            pool: AttentionPool::build(source, side, inputs, config.heads, embedding_width)?,
        })
    }

    /// Normalised pixels `[B, 3, H, W]` -> image features `[B, D]`.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<2> {
        let x = pixels.permute([0, 2, 3, 1]); // [B, H, W, 3]
        let x = self
            .stem
            .iter()
            .fold(x, |x, convolution| convolution.forward(x));
        let x = fused::halve(x); // [B, H/4, W/4, width]
        let x = self.stages.iter().fold(x, |x, block| block.forward(x)); // [B, H/32, W/32, 32·width]
        self.pool.forward(x)
    }
}

/// A convolution without bias and the batch norm behind it, folded into one weight `[outputs, inputs, kernel, kernel]` and a
/// bias `[outputs]`.
///
/// CLIP's batch norms use their running statistics always, so they are a fixed scale and shift for each channel.
fn folded<S: ParameterSource>(
    source: &mut S,
    (convolution, norm): (&str, &str),
    inputs: usize,
    outputs: usize,
    kernel: usize,
) -> Result<(Tensor<4>, Tensor<1>), S::Error> {
    let shape = [outputs, inputs, kernel, kernel];
    let weight: Tensor<4> = source.parameter(&format!("{convolution}.weight"), shape)?;
    let mut statistic = |name| source.parameter(&format!("{norm}.{name}"), [outputs]);
    let variance: Tensor<1> = statistic("running_var")?;
    let mean: Tensor<1> = statistic("running_mean")?;
    let scale = statistic("weight")? / (variance + BATCH_NORM_EPSILON).sqrt();
    let shift = statistic("bias")? - mean * scale.clone();
    Ok((weight * scale.reshape([outputs, 1, 1, 1]), shift))
}

/// A convolution of one pixel: a linear layer on the channels.
fn pointwise<S: ParameterSource>(
    source: &mut S,
    names: (&str, &str),
    inputs: usize,
    outputs: usize,
) -> Result<Linear, S::Error> {
    let (weight, bias) = folded(source, names, inputs, outputs, 1)?;
    Ok(Linear::new(weight.reshape([outputs, inputs]), bias))
}

/// A convolution of three by three pixels, and what is below zero becomes zero.
#[derive(Clone, Debug)]
enum Convolution {
    Frozen(FrozenConvolution),
    Plain {
        /// `[outputs, inputs, 3, 3]`
        weight: Box<Tensor<4>>,
        /// `[outputs]`
        bias: Box<Tensor<1>>,
        stride: usize,
    },
}

impl Convolution {
    fn build<S: ParameterSource>(
        source: &mut S,
        names: (&str, &str),
        inputs: usize,
        outputs: usize,
        stride: usize,
    ) -> Result<Self, S::Error> {
        let (weight, bias) = folded(source, names, inputs, outputs, 3)?;
        Ok(match FrozenConvolution::new(&weight, &bias, stride) {
            Some(layer) => Self::Frozen(layer),
            None => Self::Plain {
                weight: Box::new(weight),
                bias: Box::new(bias),
                stride,
            },
        })
    }

    /// `[B, H, W, inputs]` -> `[B, H / stride, W / stride, outputs]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Frozen(layer) => fused::rectified_convolution(x, layer),
            Self::Plain {
                weight,
                bias,
                stride,
            } => {
                let options = ConvOptions::new([*stride; 2], [1, 1], [1, 1], 1);
                let x = x.permute([0, 3, 1, 2]);
                let (weight, bias) = (weight.as_ref().clone(), bias.as_ref().clone());
                let y = conv2d(x, weight, Some(bias), options);
                activation::relu(y).permute([0, 2, 3, 1])
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Bottleneck {
    reduce: Linear,
    spatial: Convolution,
    expand: Linear,
    shortcut: Option<Linear>,
    stride: usize,
}

impl Bottleneck {
    fn build<S: ParameterSource>(
        source: &mut S,
        name: &str,
        inputs: usize,
        planes: usize,
        stride: usize,
    ) -> Result<Self, S::Error> {
        let outputs = planes * EXPANSION;
        let [first, second, third] =
            [1, 2, 3].map(|index| (format!("{name}.conv{index}"), format!("{name}.bn{index}")));
        let reduce = pointwise(source, (&first.0, &first.1), inputs, planes)?;
        let spatial = Convolution::build(source, (&second.0, &second.1), planes, planes, 1)?;
        let expand = pointwise(source, (&third.0, &third.1), planes, outputs)?;
        let shortcut = if stride > 1 || inputs != outputs {
            let convolution = format!("{name}.downsample.0");
            let norm = format!("{name}.downsample.1");
            Some(pointwise(source, (&convolution, &norm), inputs, outputs)?)
        } else {
            None
        };
        Ok(Self {
            reduce,
            spatial,
            expand,
            shortcut,
            stride,
        })
    }

    /// `[B, H, W, C]` -> `[B, H / stride, W / stride, C']`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self.reduce.forward_rectified(x.clone());
        let y = self.shrink(self.spatial.forward(y));
        let x = match &self.shortcut {
            Some(shortcut) => shortcut.forward(self.shrink(x)),
            None => x,
        };
        self.expand.forward_onto_rectified(y, x)
    }

    /// An average in place of a strided convolution: anti-aliased down-sampling.
    fn shrink(&self, x: Tensor<4>) -> Tensor<4> {
        if self.stride > 1 { fused::halve(x) } else { x }
    }
}

/// One attention step in which the mean of all positions asks every position.
#[derive(Clone, Debug)]
struct AttentionPool {
    positional_embedding: Tensor<2>,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
}

impl AttentionPool {
    fn build<S: ParameterSource>(
        source: &mut S,
        side: usize,
        width: usize,
        heads: usize,
        embedding_width: usize,
    ) -> Result<Self, S::Error> {
        let positional_embedding = source.parameter(
            "visual.attnpool.positional_embedding",
            [side * side + 1, width],
        )?;
        let mut linear = |name: &str, outputs| {
            Linear::build(source, &format!("visual.attnpool.{name}"), width, outputs)
        };
        Ok(Self {
            positional_embedding,
            query: linear("q_proj", width)?,
            key: linear("k_proj", width)?,
            value: linear("v_proj", width)?,
            output: linear("c_proj", embedding_width)?,
            heads,
        })
    }

    /// `[B, H, W, C]` -> `[B, D]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let [batch, _, _, width] = x.dims();
        let positions = x.flatten::<3>(1, 2); // [B, HW, C]
        let mean = positions.clone().mean_dim(1); // [B, 1, C]
        let tokens =
            Tensor::cat(vec![mean, positions], 1) + self.positional_embedding.clone().unsqueeze(); // [B, 1 + HW, C]
        let query = tokens.clone().narrow(1, 0, 1); // [B, 1, C]
        let attended = fused::attention(
            self.query.forward(query),
            self.key.forward(tokens.clone()),
            self.value.forward(tokens),
            self.heads,
            None,
        );
        self.output.forward(attended.reshape([batch, width]))
    }
}
