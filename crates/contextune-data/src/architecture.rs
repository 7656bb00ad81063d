//! The architecture of a model: everything about it that is not a weight.

use serde::{Deserialize, Serialize};

/// An image tower, and what belongs to it: a text tower (Radford et al. 2021, §2.4) or a classifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Width D of an image feature; beside a text tower that of the joint space.
    pub embedding_width: usize,
    /// Activation inside the MLPs of every transformer of the model.
    pub activation: Activation,
    /// Image tower: pixels `[B, 3, image_size, image_size]` to features `[B, embedding_width]`.
    pub image: ImageTowerConfig,
    /// Text tower: token ids `[B, context_length]` to features `[B, embedding_width]`. Absent for a model of pictures alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextTowerConfig>,
    /// Classes of the linear layer that the model was pretrained with, if its weights hold it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretrained_classes: Option<usize>,
}

/// Activation of the transformer MLPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// u·σ(1.702·u), what the OpenAI models were trained with.
    #[serde(rename = "quickgelu")]
    QuickGelu,
    /// u·Φ(u) with the exact normal distribution function.
    Gelu,
}

/// The architecture of an image tower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ImageTowerConfig {
    /// A vision transformer (Dosovitskiy et al. 2021).
    Vit(VitConfig),
    /// CLIP's modified ResNet (Radford et al. 2021, §2.4).
    ResNet(ResNetConfig),
    /// EfficientNet-Lite, a network for small devices.
    EfficientNet(EfficientNetConfig),
}

impl ImageTowerConfig {
    /// Returns the side of the square input in pixels.
    pub fn image_size(&self) -> usize {
        match self {
            Self::Vit(vit) => vit.image_size,
            Self::ResNet(resnet) => resnet.image_size,
            Self::EfficientNet(net) => net.image_size,
        }
    }
}

/// A vision transformer: (image_size / patch_size)² patches and the tokens in front of them, each a row of `width` numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VitConfig {
    /// Side of the square input in pixels, a multiple of `patch_size`.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Width of a row between the blocks, a multiple of `heads`.
    pub width: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads of each block, each `width / heads` wide.
    pub heads: usize,
    /// What its family does differently.
    #[serde(default, skip_serializing_if = "VitFamily::is_clip")]
    pub family: VitFamily,
}

/// What the families of vision transformers do differently.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VitFamily {
    /// A norm before the blocks, a projection behind them, patches without a bias, ε = 1e-5.
    #[default]
    Clip,
    /// Dosovitskiy et al. 2021 and what follows it: patches with a bias, and the feature is the normed class token.
    Plain(PlainVit),
}

/// A vision transformer without a text tower beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlainVit {
    /// Width of an MLP's hidden layer, usually four times that of a row.
    pub mlp_width: usize,
    /// ε of its norms: 1e-6 in JAX and DINOv2, 1e-12 in Hugging Face's ViT and DeiT.
    pub epsilon: f32,
    /// Whether every block multiplies what its attention and its MLP add to a row by a learned vector (LayerScale, Touvron
    /// et al. 2021), as DINOv2 does.
    pub layer_scale: bool,
    /// Tokens in front of the patches: the class token, in a distilled DeiT another one.
    pub leading_tokens: usize,
    /// Side of the grid of positions that the weights hold; resized to the grid of the input.
    pub position_grid: usize,
    /// How the grid of positions is resized.
    pub resizing: PositionResizing,
}

/// How a grid of position embeddings becomes a grid of another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionResizing {
    /// Linear between grids whose corners fall together, as `scipy.ndimage.zoom(order=1)` does (JAX, KMnP/vpt).
    Linear,
    /// Bicubic between grids whose edges fall together (DINOv2, Hugging Face).
    Bicubic,
}

impl VitFamily {
    fn is_clip(&self) -> bool {
        matches!(self, Self::Clip)
    }
}

impl VitConfig {
    /// Returns the number of tokens in front of the patches.
    pub fn leading_tokens(&self) -> usize {
        match &self.family {
            VitFamily::Clip => 1,
            VitFamily::Plain(plain) => plain.leading_tokens,
        }
    }

    /// Returns the width of an MLP's hidden layer.
    pub fn mlp_width(&self) -> usize {
        match &self.family {
            VitFamily::Clip => 4 * self.width,
            VitFamily::Plain(plain) => plain.mlp_width,
        }
    }

    /// Returns the side of the grid of positions that the weights hold.
    pub fn position_grid(&self) -> usize {
        match &self.family {
            VitFamily::Clip => self.image_size / self.patch_size,
            VitFamily::Plain(plain) => plain.position_grid,
        }
    }
}

/// CLIP's modified ResNet: three convolutions as its stem, four stages of bottleneck blocks, an attention pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResNetConfig {
    /// Side of the square input in pixels, a multiple of 32.
    pub image_size: usize,
    /// Channels after the stem; the attention pool works on 32 times as many.
    pub width: usize,
    /// Bottleneck blocks in each of the four stages.
    pub blocks: [usize; 4],
    /// Heads of the attention pool.
    pub heads: usize,
}

/// EfficientNet-Lite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EfficientNetConfig {
    /// Side of the square input in pixels.
    pub image_size: usize,
    /// Channels after the stem.
    pub stem: usize,
    /// The blocks in order; each takes the channels that the one before it gives, the first those of the stem.
    pub blocks: Vec<InvertedResidual>,
    /// Channels after the last convolution: the width of a feature.
    pub head: usize,
}

/// A block that widens, convolves each channel by itself, and narrows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvertedResidual {
    /// Side of a window in pixels.
    pub kernel: usize,
    /// Pixels from window to window.
    pub stride: usize,
    /// Channels in.
    pub inputs: usize,
    /// Channels between; where they are as many as `inputs`, nothing widens them.
    pub hidden: usize,
    /// Channels out.
    pub outputs: usize,
}

/// CLIP's text tower: a transformer over tokens that sees only what came before (Radford et al. 2021, §2.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextTowerConfig {
    /// Positions of the tower, start and end token included (77 in the published models).
    pub context_length: usize,
    /// Rows of the token embedding: byte symbols, merges, start and end of text.
    pub vocabulary_size: usize,
    /// Width of a row between the blocks, a multiple of `heads`; an MLP's hidden layer is four times as wide.
    pub width: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads of each block, each `width / heads` wide.
    pub heads: usize,
}
