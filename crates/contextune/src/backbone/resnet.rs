//! CLIP's modified ResNet (Radford et al. 2021, §2.4): three-convolution stem, anti-aliased strides, attention pooling.

use burn::tensor::{
    Tensor, activation,
    module::{avg_pool2d, conv2d},
    ops::{AvgPoolOptions, ConvOptions},
};

use super::transformer::{Linear, attention, merge_heads, split_heads};
use super::{ParameterSource, ResNetConfig};

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
            Convolution::build(source, "visual.conv1", "visual.bn1", 3, half, 3, 2)?,
            Convolution::build(source, "visual.conv2", "visual.bn2", half, half, 3, 1)?,
            Convolution::build(source, "visual.conv3", "visual.bn3", half, width, 3, 1)?,
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
        let x = self.stem.iter().fold(pixels, |x, convolution| {
            activation::relu(convolution.forward(x))
        });
        let x = halve(x); // [B, width, H/4, W/4]
        let x = self.stages.iter().fold(x, |x, block| block.forward(x)); // [B, 32·width, H/32, W/32]
        self.pool.forward(x)
    }
}

/// A convolution without bias and the batch norm behind it, folded into one convolution with bias.
///
/// CLIP's batch norms use their running statistics always, so they are a fixed scale and shift for each channel.
#[derive(Clone, Debug)]
struct Convolution {
    weight: Tensor<4>,
    bias: Tensor<1>,
    stride: usize,
}

impl Convolution {
    fn build<S: ParameterSource>(
        source: &mut S,
        convolution: &str,
        norm: &str,
        inputs: usize,
        outputs: usize,
        kernel: usize,
        stride: usize,
    ) -> Result<Self, S::Error> {
        let weight = source.parameter(
            &format!("{convolution}.weight"),
            [outputs, inputs, kernel, kernel],
        )?;
        let mut statistic = |name| source.parameter(&format!("{norm}.{name}"), [outputs]);
        let variance: Tensor<1> = statistic("running_var")?;
        let mean: Tensor<1> = statistic("running_mean")?;
        let scale = statistic("weight")? / (variance + BATCH_NORM_EPSILON).sqrt();
        let shift = statistic("bias")? - mean * scale.clone();
        Ok(Self {
            weight: weight * scale.reshape([outputs, 1, 1, 1]),
            bias: shift,
            stride,
        })
    }

    /// `[B, inputs, H, W]` -> `[B, outputs, H / stride, W / stride]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let padding = self.weight.dims()[2] / 2;
        let options = ConvOptions::new([self.stride, self.stride], [padding, padding], [1, 1], 1);
        conv2d(x, self.weight.clone(), Some(self.bias.clone()), options)
    }
}

#[derive(Clone, Debug)]
struct Bottleneck {
    reduce: Convolution,
    spatial: Convolution,
    expand: Convolution,
    shortcut: Option<Convolution>,
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
        let mut convolution = |index: usize, inputs, outputs, kernel| {
            let convolution = format!("{name}.conv{index}");
            let norm = format!("{name}.bn{index}");
            Convolution::build(source, &convolution, &norm, inputs, outputs, kernel, 1)
        };
        let reduce = convolution(1, inputs, planes, 1)?;
        let spatial = convolution(2, planes, planes, 3)?;
        let expand = convolution(3, planes, outputs, 1)?;
        let shortcut = if stride > 1 || inputs != outputs {
            let convolution = format!("{name}.downsample.0");
            let norm = format!("{name}.downsample.1");
            Some(Convolution::build(
                source,
                &convolution,
                &norm,
                inputs,
                outputs,
                1,
                1,
            )?)
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

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = activation::relu(self.reduce.forward(x.clone()));
        let y = activation::relu(self.spatial.forward(y));
        let y = self.expand.forward(self.shrink(y));
        let x = match &self.shortcut {
            Some(shortcut) => shortcut.forward(self.shrink(x)),
            None => x,
        };
        activation::relu(x + y)
    }

    /// An average in place of a strided convolution: anti-aliased down-sampling.
    fn shrink(&self, x: Tensor<4>) -> Tensor<4> {
        if self.stride > 1 { halve(x) } else { x }
    }
}

/// `[B, C, H, W]` -> `[B, C, H/2, W/2]`, the mean of each 2×2 square.
fn halve(x: Tensor<4>) -> Tensor<4> {
    avg_pool2d(x, AvgPoolOptions::new([2, 2]))
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

    /// `[B, C, H, W]` -> `[B, D]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let [batch, width, _, _] = x.dims();
        let positions = x.flatten::<3>(2, 3).swap_dims(1, 2); // [B, HW, C]
        let mean = positions.clone().mean_dim(1); // [B, 1, C]
        let tokens =
            Tensor::cat(vec![mean, positions], 1) + self.positional_embedding.clone().unsqueeze(); // [B, 1 + HW, C]
        let query = tokens.clone().narrow(1, 0, 1); // [B, 1, C]
        let attended = attention(
            split_heads(self.query.forward(query), self.heads),
            split_heads(self.key.forward(tokens.clone()), self.heads),
            split_heads(self.value.forward(tokens), self.heads),
            None,
        );
        self.output
            .forward(merge_heads(attended).reshape([batch, width]))
    }
}
