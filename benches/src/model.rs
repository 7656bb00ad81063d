//! Towers of the published sizes with random weights: what is timed does not depend on their values.

use std::convert::Infallible;

use burn::tensor::{Device, Tensor, TensorData};
use contextune::backbone::{
    Activation, ImageTower, ImageTowerConfig, ModelConfig, ResNetConfig, TextTower,
    TextTowerConfig, VitConfig, VitFamily,
};
use contextune::parameters::ParameterSource;

/// Small random weights; norms of one, so that activations stay finite.
pub struct RandomWeights {
    state: u64,
    device: Device,
}

impl RandomWeights {
    pub fn new(device: &Device) -> Self {
        Self {
            state: 1,
            device: device.clone(),
        }
    }

    /// Uniform in −0.5 .. 0.5, from a 64-bit linear congruential generator.
    pub fn next(&mut self) -> f32 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    }

    pub fn values(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| scale * self.next()).collect()
    }
}

impl ParameterSource for RandomWeights {
    type Error = Infallible;

    fn parameter<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Tensor<D>, Infallible> {
        let count = shape.iter().product();
        let is_norm = D == 1 && name.ends_with("weight");
        let values = match is_norm || name.ends_with("running_var") {
            true => vec![1.0; count],
            false => self.values(count, 0.07),
        };
        Ok(Tensor::from_data(
            TensorData::new(values, shape),
            &self.device,
        ))
    }
}

/// The text tower of ViT-B and RN50.
pub const TEXT: TextTowerConfig = TextTowerConfig {
    context_length: 77,
    vocabulary_size: 49_408,
    width: 512,
    layers: 12,
    heads: 8,
};

pub fn text_tower(config: &TextTowerConfig, embedding_width: usize, device: &Device) -> TextTower {
    let mut weights = RandomWeights::new(device);
    let Ok(tower) = TextTower::build(&mut weights, config, embedding_width, Activation::QuickGelu);
    tower
}

/// The image tower of `name`: ViT-B-32, ViT-B-16 or RN50.
pub fn image_tower(name: &str, device: &Device) -> ImageTower {
    let (image, embedding_width) = match name {
        "ViT-B-32" => (ImageTowerConfig::Vit(vit(32)), 512),
        "ViT-B-16" => (ImageTowerConfig::Vit(vit(16)), 512),
        _ => (
            ImageTowerConfig::ResNet(ResNetConfig {
                image_size: 224,
                width: 64,
                blocks: [3, 4, 6, 3],
                heads: 32,
            }),
            1024,
        ),
    };
    build(image, embedding_width, device)
}

/// ViT-B with patches of this side.
pub fn vit(patch_size: usize) -> VitConfig {
    VitConfig {
        image_size: 224,
        patch_size,
        width: 768,
        layers: 12,
        heads: 12,
        family: VitFamily::Clip,
    }
}

/// A vision transformer of this size.
pub fn vision_transformer(config: &VitConfig, device: &Device) -> ImageTower {
    build(ImageTowerConfig::Vit(config.clone()), 512, device)
}

fn build(image: ImageTowerConfig, embedding_width: usize, device: &Device) -> ImageTower {
    let config = ModelConfig {
        embedding_width,
        activation: Activation::QuickGelu,
        image,
        text: None,
        pretrained_classes: None,
    };
    let Ok(tower) = ImageTower::build(&mut RandomWeights::new(device), &config);
    tower
}
