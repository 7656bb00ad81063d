//! The two towers and their joint space (Radford et al. 2021, figure 3).

use burn::tensor::{Device, Tensor, TensorData};

use super::efficientnet::EfficientNet;
use super::resnet::ModifiedResNet;
use super::text_tower::TextTower;
use super::vit::VisionTransformer;
use super::{ImageTowerConfig, ModelConfig, TextTowerConfig};
use crate::parameters::ParameterSource;

/// Pictures to image features, `[B, 3, H, W]` -> `[B, D]`.
#[derive(Clone, Debug)]
pub enum ImageTower {
    /// A vision transformer.
    Vit(Box<VisionTransformer>),
    /// CLIP's modified ResNet.
    ResNet(Box<ModifiedResNet>),
    /// EfficientNet-Lite.
    EfficientNet(Box<EfficientNet>),
}

impl ImageTower {
    /// Reads the parameters below `visual.`.
    pub fn build<S: ParameterSource>(
        source: &mut S,
        config: &ModelConfig,
    ) -> Result<Self, S::Error> {
        Ok(match &config.image {
            ImageTowerConfig::Vit(vit) => Self::Vit(Box::new(VisionTransformer::build(
                source,
                vit,
                config.embedding_width,
                config.activation,
            )?)),
            ImageTowerConfig::ResNet(resnet) => Self::ResNet(Box::new(ModifiedResNet::build(
                source,
                resnet,
                config.embedding_width,
            )?)),
            ImageTowerConfig::EfficientNet(net) => {
                Self::EfficientNet(Box::new(EfficientNet::build(source, net)?))
            }
        })
    }

    /// Normalised pixels `[B, 3, size, size]` -> image features `[B, D]`, not of unit length.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<2> {
        match self {
            Self::Vit(tower) => tower.forward(pixels),
            Self::ResNet(tower) => tower.forward(pixels),
            Self::EfficientNet(tower) => tower.forward(pixels),
        }
    }
}

/// Mean and standard deviation of each colour channel, subtracted and divided at the image tower's input.
#[derive(Clone, Debug)]
pub struct PixelNormalisation {
    mean: Tensor<4>,
    deviation: Tensor<4>,
}

impl PixelNormalisation {
    /// For pixels in `[0, 1]`, red, green, blue.
    pub fn new(mean: [f32; 3], deviation: [f32; 3], device: &Device) -> Self {
        let channels = |values: [f32; 3]| {
            Tensor::from_data(TensorData::new(values.to_vec(), [1, 3, 1, 1]), device)
        };
        Self {
            mean: channels(mean),
            deviation: channels(deviation),
        }
    }

    /// Normalised pixels `[B, 3, H, W]` -> pixels that were in `[0, 1]` before they were normalised.
    pub fn undo(&self, pixels: Tensor<4>) -> Tensor<4> {
        pixels * self.deviation.clone() + self.mean.clone()
    }

    /// Pixels in `[0, 1]`, `[B, 3, H, W]` -> normalised pixels of the same shape.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        (pixels - self.mean.clone()) / self.deviation.clone()
    }
}

/// A CLIP model.
#[derive(Clone, Debug)]
pub struct Clip {
    /// Pictures to image features.
    pub image: ImageTower,
    /// Prompts to text features.
    pub text: TextTower,
    /// Natural logarithm of the factor on the cosine, `[1]`.
    pub logit_scale: Tensor<1>,
}

impl Clip {
    /// Reads every parameter of both towers; `text` is the text tower of `config`.
    pub fn build<S: ParameterSource>(
        source: &mut S,
        config: &ModelConfig,
        text: &TextTowerConfig,
    ) -> Result<Self, S::Error> {
        Ok(Self {
            image: ImageTower::build(source, config)?,
            text: TextTower::build(source, text, config.embedding_width, config.activation)?,
            logit_scale: source.parameter("logit_scale", [1])?,
        })
    }
}
