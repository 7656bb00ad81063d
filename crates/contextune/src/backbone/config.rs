//! The architecture of a CLIP model: everything about it that is not a weight.

use serde::{Deserialize, Serialize};

/// A contrastive image–text model (Radford et al. 2021, §2.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClipConfig {
    /// Width D of the joint embedding space.
    pub embedding_width: usize,
    /// Activation inside the MLPs of every transformer of the model.
    pub activation: Activation,
    pub image: ImageTowerConfig,
    pub text: TextTowerConfig,
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

/// The image tower: a vision transformer or CLIP's modified ResNet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ImageTowerConfig {
    Vit(VitConfig),
    ResNet(ResNetConfig),
}

impl ImageTowerConfig {
    /// Side of the square input in pixels.
    pub fn image_size(&self) -> usize {
        match self {
            Self::Vit(vit) => vit.image_size,
            Self::ResNet(resnet) => resnet.image_size,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VitConfig {
    /// Side of the square input in pixels, a multiple of `patch_size`.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
}

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

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextTowerConfig {
    /// Positions of the tower, start and end token included (77 in the published models).
    pub context_length: usize,
    /// Rows of the token embedding: byte symbols, merges, start and end of text.
    pub vocabulary_size: usize,
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
}
