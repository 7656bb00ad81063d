//! CLIP's vision transformer (Dosovitskiy et al. 2021, with a layer norm before the blocks).

use burn::tensor::{Tensor, module, ops::ConvOptions};

use super::frozen::FrozenMatrix;
use super::fused;
use super::plain::{self, Mask};
use super::transformer::{Block, LayerNorm};
use super::{Activation, ParameterSource, VitConfig};
use crate::indices::indices;

/// A linear layer without bias on the pixels of each patch.
#[derive(Clone, Debug)]
enum PatchEmbedding {
    Frozen(FrozenMatrix),
    /// `[d, 3, patch, patch]`
    Plain(Box<Tensor<4>>),
}

impl PatchEmbedding {
    /// Of a weight `[d, 3, patch, patch]`.
    fn new(weight: Tensor<4>) -> Self {
        let [width, ..] = weight.dims();
        let bias = Tensor::zeros([width], &weight.device());
        match FrozenMatrix::new(&weight.clone().flatten::<2>(1, 3), &bias) {
            Some(layer) => Self::Frozen(layer),
            None => Self::Plain(Box::new(weight)),
        }
    }

    /// `[B, 3, H, W]` -> `[B, patches, d]`.
    fn forward(&self, pixels: Tensor<4>, patch: usize) -> Tensor<3> {
        match self {
            Self::Frozen(layer) => fused::patches(pixels, layer, patch),
            Self::Plain(weight) => {
                let options = ConvOptions::new([patch, patch], [0, 0], [1, 1], 1);
                module::conv2d(pixels, weight.as_ref().clone(), None, options)
                    .flatten::<3>(2, 3) // [B, d, patches]
                    .swap_dims(1, 2)
            }
        }
    }
}

/// Pictures to image features through patches, blocks and the class token.
#[derive(Clone, Debug)]
pub struct VisionTransformer {
    patch_embedding: PatchEmbedding,
    class_embedding: Tensor<1>,
    positional_embedding: Tensor<2>,
    norm_before: LayerNorm,
    blocks: Vec<Block>,
    norm_after: LayerNorm,
    projection: Tensor<2>,
    config: VitConfig,
}

impl VisionTransformer {
    /// Reads all parameters below `visual.`; `embedding_width` is D of the joint space.
    pub fn build<S: ParameterSource>(
        source: &mut S,
        config: &VitConfig,
        embedding_width: usize,
        activation: Activation,
    ) -> Result<Self, S::Error> {
        let VitConfig {
            image_size,
            patch_size,
            width,
            layers,
            heads,
        } = *config;
        let patches = (image_size / patch_size).pow(2);
        let blocks = (0..layers)
            .map(|i| {
                let name = format!("visual.transformer.resblocks.{i}");
                Block::build(source, &name, width, heads, activation)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            patch_embedding: PatchEmbedding::new(
                source.parameter("visual.conv1.weight", [width, 3, patch_size, patch_size])?,
            ),
            class_embedding: source.parameter("visual.class_embedding", [width])?,
            positional_embedding: source
                .parameter("visual.positional_embedding", [patches + 1, width])?,
            norm_before: LayerNorm::build(source, "visual.ln_pre", width)?,
            blocks,
            norm_after: LayerNorm::build(source, "visual.ln_post", width)?,
            projection: source.parameter("visual.proj", [width, embedding_width])?,
            config: config.clone(),
        })
    }

    /// Normalised pixels `[B, 3, H, W]` -> image features `[B, D]`.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<2> {
        self.walk(self.tokens(pixels))
    }

    /// The same from some patches of each picture only, which makes a training step as much cheaper (Li et al. 2023,
    /// "Scaling language-image pre-training via masking"): `kept[b]` are the patches of picture b, from 0 in reading
    /// order, equally many of each picture.
    pub fn forward_patches(&self, pixels: Tensor<4>, kept: &[Vec<usize>]) -> Tensor<2> {
        let tokens = self.tokens(pixels); // [B, 1 + patches, d]
        let [batch, all, width] = tokens.dims();
        let rows: Vec<usize> = kept
            .iter()
            .enumerate()
            .flat_map(|(picture, kept)| {
                let class_token = picture * all;
                std::iter::once(class_token).chain(kept.iter().map(move |&p| class_token + 1 + p))
            })
            .collect();
        let kept = rows.len() / batch;
        let tokens = tokens
            .clone()
            .reshape([batch * all, width])
            .select(0, indices(rows, &tokens.device()))
            .reshape([batch, kept, width]);
        self.walk(tokens)
    }

    /// Number of patches of a picture.
    pub fn patches(&self) -> usize {
        (self.config.image_size / self.config.patch_size).pow(2)
    }

    /// Class token and patches with their positions, `[B, 1 + patches, d]`.
    fn tokens(&self, pixels: Tensor<4>) -> Tensor<3> {
        let batch = pixels.dims()[0];
        let VitConfig {
            patch_size, width, ..
        } = self.config;
        let patches = self.patch_embedding.forward(pixels, patch_size); // [B, patches, d]
        let class_token = self
            .class_embedding
            .clone()
            .reshape([1, 1, width])
            .expand([batch, 1, width]);
        Tensor::cat(vec![class_token, patches], 1) + self.positional_embedding.clone().unsqueeze()
    }

    /// The blocks on tokens `[B, T, d]`, the class token first -> image features `[B, D]`.
    fn walk(&self, tokens: Tensor<3>) -> Tensor<2> {
        let class_rows = vec![0; tokens.dims()[0]];
        let class_token = plain::walk(
            &self.blocks,
            self.norm_before.forward(tokens),
            Mask::None,
            &class_rows,
        ); // [B, d]
        self.norm_after
            .forward(class_token)
            .matmul(self.projection.clone()) // [B, D]
    }
}
