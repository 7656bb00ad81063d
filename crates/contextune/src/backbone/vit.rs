//! Vision transformers (Dosovitskiy et al. 2021): CLIP's, with a norm before the blocks and a projection behind them, and
//! those without a text tower beside them.

use burn::tensor::{Tensor, module, ops::ConvOptions};

use super::frozen::FrozenMatrix;
use super::fused;
use super::plain::{self, Inserts, Mask};
use super::positions::resized;
use super::transformer::{Block, BlockConfig, CLIP_EPSILON, LayerNorm};
use super::{Activation, PositionResizing, VitConfig, VitFamily};
use crate::indices::indices;
use crate::parameters::ParameterSource;

/// Patches `[B, C, H, W]` by a weight `[d, C, patch, patch]`: `[B, patches, d]`.
fn convolved(pixels: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>, patch: usize) -> Tensor<3> {
    let options = ConvOptions::new([patch, patch], [0, 0], [1, 1], 1);
    module::conv2d(pixels, weight, Some(bias), options)
        .flatten::<3>(2, 3) // [B, d, patches]
        .swap_dims(1, 2)
}

/// Pictures to image features through patches, blocks and the class token.
#[derive(Clone, Debug)]
pub struct VisionTransformer {
    /// `[d, 3, patch, patch]`
    patch_weight: Tensor<4>,
    /// `[d]`
    patch_bias: Tensor<1>,
    /// Both, packed, unless they are being learned.
    frozen_patches: Option<FrozenMatrix>,
    class_embedding: Tensor<1>,
    /// Of a second leading token, `[d]`.
    distillation_embedding: Option<Tensor<1>>,
    /// Of the leading tokens and of the grid that the weights hold, `[leading + grid², d]`.
    positional_embedding: Tensor<2>,
    norm_before: Option<LayerNorm>,
    blocks: Vec<Block>,
    norm_after: LayerNorm,
    /// `[d, D]`
    projection: Option<Tensor<2>>,
    config: VitConfig,
}

impl VisionTransformer {
    /// Reads all parameters below `visual.`; `embedding_width` is D.
    pub fn build<S: ParameterSource>(
        source: &mut S,
        config: &VitConfig,
        embedding_width: usize,
        activation: Activation,
    ) -> Result<Self, S::Error> {
        let VitConfig {
            patch_size,
            width,
            layers,
            heads,
            ..
        } = *config;
        let (epsilon, layer_scale) = match &config.family {
            VitFamily::Clip => (CLIP_EPSILON, false),
            VitFamily::Plain(plain) => (plain.epsilon, plain.layer_scale),
        };
        let is_clip = matches!(config.family, VitFamily::Clip);
        let block = BlockConfig {
            width,
            mlp_width: config.mlp_width(),
            heads,
            activation,
            epsilon,
            layer_scale,
        };
        let leading = config.leading_tokens();
        let positions = leading + config.position_grid().pow(2);
        let blocks = (0..layers)
            .map(|i| Block::build(source, &format!("visual.transformer.resblocks.{i}"), &block))
            .collect::<Result<_, _>>()?;
        let patch_weight: Tensor<4> =
            source.parameter("visual.conv1.weight", [width, 3, patch_size, patch_size])?;
        let patch_bias = match is_clip {
            true => Tensor::zeros([width], &patch_weight.device()),
            false => source.parameter("visual.conv1.bias", [width])?,
        };
        Ok(Self {
            frozen_patches: FrozenMatrix::new(&patch_weight.clone().flatten(1, 3), &patch_bias),
            patch_weight,
            patch_bias,
            class_embedding: source.parameter("visual.class_embedding", [width])?,
            distillation_embedding: match leading {
                2 => Some(source.parameter("visual.distillation_embedding", [width])?),
                _ => None,
            },
            positional_embedding: source
                .parameter("visual.positional_embedding", [positions, width])?,
            norm_before: match is_clip {
                true => Some(LayerNorm::build(source, "visual.ln_pre", width, epsilon)?),
                false => None,
            },
            blocks,
            norm_after: LayerNorm::build(source, "visual.ln_post", width, epsilon)?,
            projection: match is_clip {
                true => Some(source.parameter("visual.proj", [width, embedding_width])?),
                false => None,
            },
            config: config.clone(),
        })
    }

    /// The same tower with those parameters in the place of its own that `source` has: whole blocks or some of their biases,
    /// adapters, norms, leading tokens, positions, the whole patch embedding or its bias, the projection.
    ///
    /// # Errors
    /// What `source` reports.
    pub fn with<S: ParameterSource>(
        &self,
        source: &mut S,
        has: impl Fn(&str) -> bool,
    ) -> Result<Self, S::Error> {
        let mut tower = self.clone();
        for (number, block) in tower.blocks.iter_mut().enumerate() {
            let name = format!("visual.transformer.resblocks.{number}");
            *block = block.with(source, &name, &has)?;
        }
        if let Some(norm) = &mut tower.norm_before {
            *norm = norm.with(source, "visual.ln_pre", &has)?;
        }
        tower.norm_after = self.norm_after.with(source, "visual.ln_post", &has)?;
        if has("visual.class_embedding") {
            let shape = self.class_embedding.dims();
            tower.class_embedding = source.parameter("visual.class_embedding", shape)?;
        }
        if let Some(embedding) = &mut tower.distillation_embedding
            && has("visual.distillation_embedding")
        {
            *embedding = source.parameter("visual.distillation_embedding", embedding.dims())?;
        }
        if has("visual.positional_embedding") {
            let shape = self.positional_embedding.dims();
            tower.positional_embedding = source.parameter("visual.positional_embedding", shape)?;
        }
        if let Some(projection) = &mut tower.projection
            && has("visual.proj")
        {
            *projection = source.parameter("visual.proj", projection.dims())?;
        }
        if has("visual.conv1.weight") {
            tower.patch_weight =
                source.parameter("visual.conv1.weight", self.patch_weight.dims())?;
            tower.frozen_patches = None;
        }
        if has("visual.conv1.bias") {
            tower.patch_bias = source.parameter("visual.conv1.bias", self.patch_bias.dims())?;
            tower.frozen_patches = None;
        }
        Ok(tower)
    }

    /// Weight of the patch embedding, `[d, 3, patch, patch]`.
    pub fn patch_weight(&self) -> Tensor<4> {
        self.patch_weight.clone()
    }

    /// Its bias, `[d]`.
    pub fn patch_bias(&self) -> Tensor<1> {
        self.patch_bias.clone()
    }

    /// The architecture of this tower.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// Width D of a feature.
    pub fn feature_width(&self) -> usize {
        let projected = self.projection.as_ref();
        projected.map_or(self.config.width, |projection| projection.dims()[1])
    }

    /// Number of patches of a picture.
    pub fn patches(&self) -> usize {
        (self.config.image_size / self.config.patch_size).pow(2)
    }

    /// Normalised pixels `[B, 3, H, W]` -> image features `[B, D]`.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<2> {
        self.class_feature(self.tokens(pixels), &Inserts::new())
    }

    /// The same from some patches of each picture only, which makes a training step as much cheaper (Li et al. 2023,
    /// "Scaling language-image pre-training via masking"): `kept[b]` are the patches of picture b, from 0 in reading
    /// order, equally many of each picture.
    pub fn forward_patches(&self, pixels: Tensor<4>, kept: &[Vec<usize>]) -> Tensor<2> {
        let tokens = self.tokens(pixels); // [B, leading + patches, d]
        let [batch, all, width] = tokens.dims();
        let leading = self.config.leading_tokens();
        let rows: Vec<usize> = kept
            .iter()
            .enumerate()
            .flat_map(|(picture, kept)| {
                let first = picture * all;
                (first..first + leading).chain(kept.iter().map(move |&p| first + leading + p))
            })
            .collect();
        let kept = rows.len() / batch;
        let tokens = tokens
            .clone()
            .reshape([batch * all, width])
            .select(0, indices(rows, &tokens.device()))
            .reshape([batch, kept, width]);
        self.class_feature(tokens, &Inserts::new())
    }

    /// Class token and patches with their positions, before any norm: `[B, leading + patches, d]`.
    pub fn tokens(&self, pixels: Tensor<4>) -> Tensor<3> {
        self.with_positions(self.embed_patches(pixels))
    }

    /// Patches of normalised pixels `[B, 3, side, side]` without positions, `[B, patches, d]`; pixels behind the last whole
    /// patch are left out.
    pub fn embed_patches(&self, pixels: Tensor<4>) -> Tensor<3> {
        let patch = self.config.patch_size;
        let side = pixels.dims()[2];
        let whole = side / patch * patch;
        let pixels = match whole == side {
            true => pixels,
            false => pixels.narrow(2, 0, whole).narrow(3, 0, whole),
        };
        match &self.frozen_patches {
            Some(layer) => fused::patches(pixels, layer, patch),
            None => {
                let (weight, bias) = (self.patch_weight.clone(), self.patch_bias.clone());
                convolved(pixels, weight, bias, patch)
            }
        }
    }

    /// The same by another weight `[d, C, patch, patch]` and bias `[d]`, on `[B, C, H, W]`.
    pub fn embed_patches_by(
        &self,
        weight: Tensor<4>,
        bias: Tensor<1>,
        pixels: Tensor<4>,
    ) -> Tensor<3> {
        convolved(pixels, weight, bias, self.config.patch_size)
    }

    /// Leading tokens in front of patches `[B, patches, d]`, whose number is a square, all with their positions:
    /// `[B, leading + patches, d]`.
    pub fn with_positions(&self, patches: Tensor<3>) -> Tensor<3> {
        let [batch, count, width] = patches.dims();
        let alike = |token: &Tensor<1>| {
            let token = token.clone().reshape([1, 1, width]);
            token.expand([batch, 1, width])
        };
        let mut tokens = vec![alike(&self.class_embedding)];
        tokens.extend(self.distillation_embedding.as_ref().map(alike));
        tokens.push(patches);
        Tensor::cat(tokens, 1) + self.positions(count.isqrt()).unsqueeze()
    }

    /// Positions of the leading tokens and of a square grid of patches, `[leading + grid², d]`.
    pub fn positions(&self, grid: usize) -> Tensor<2> {
        let stored = self.config.position_grid();
        if grid == stored {
            return self.positional_embedding.clone();
        }
        let resizing = match &self.config.family {
            VitFamily::Clip => PositionResizing::Bicubic,
            VitFamily::Plain(plain) => plain.resizing,
        };
        let leading = self.config.leading_tokens();
        let all = self.positional_embedding.clone();
        let of_grid = all.clone().narrow(0, leading, stored * stored);
        let of_grid = resized(of_grid, stored, grid, resizing); // [grid², d]
        Tensor::cat(vec![all.narrow(0, 0, leading), of_grid], 0)
    }

    /// The blocks on tokens `[B, T, d]`, the class token first -> its feature `[B, D]`. Rows that enter before the first
    /// block pass CLIP's norm before the blocks as tokens do.
    pub fn class_feature(&self, tokens: Tensor<3>, inserts: &Inserts) -> Tensor<2> {
        let class_rows = vec![0; tokens.dims()[0]];
        let (tokens, inserts) = self.normed_before(tokens, inserts);
        let class_token = plain::walk(&self.blocks, tokens, Mask::None, &inserts, &class_rows); // [B, d]
        self.project(self.norm_after.forward(class_token))
    }

    /// The class token before each block, first of all before CLIP's norm, and behind the last block, without the norm there:
    /// tokens `[B, T, d]` -> one more than layers, `[B, d]` each.
    pub fn class_tokens(&self, tokens: Tensor<3>) -> Vec<Tensor<2>> {
        let [batch, _, width] = tokens.dims();
        let input = tokens.clone().narrow(1, 0, 1).reshape([batch, width]);
        let (tokens, _) = self.normed_before(tokens, &Inserts::new());
        let mut rows = plain::first_rows(&self.blocks, tokens);
        rows[0] = input;
        rows
    }

    /// All rows behind the blocks, normed; those inserted last stand behind the sequence's own: `[B, T + p, d]`.
    pub fn all_rows(&self, tokens: Tensor<3>, inserts: &Inserts) -> Tensor<3> {
        let (tokens, inserts) = self.normed_before(tokens, inserts);
        let rows = plain::walk_all(&self.blocks, tokens, Mask::None, &inserts);
        self.norm_after.forward(rows)
    }

    /// Normed rows `[N, d]` -> features `[N, D]`.
    pub fn project(&self, rows: Tensor<2>) -> Tensor<2> {
        match &self.projection {
            Some(projection) => rows.matmul(projection.clone()),
            None => rows,
        }
    }

    /// Tokens, and rows that enter with them, behind the norm before the blocks, if there is one.
    fn normed_before(&self, tokens: Tensor<3>, inserts: &Inserts) -> (Tensor<3>, Inserts) {
        let mut inserts = inserts.clone();
        let Some(norm) = &self.norm_before else {
            return (tokens, inserts);
        };
        if let Some(plain::Insert::Rows(rows)) = inserts.get_mut(&0) {
            *rows = norm.forward(rows.clone());
        }
        (norm.forward(tokens), inserts)
    }
}
