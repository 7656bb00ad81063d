//! CLIP's initial weights, as openai/CLIP draws them.

use std::convert::Infallible;

use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::IMAGE_TEACHER_HEAD;
use crate::backbone::TextTowerConfig;
use crate::parameters::Initial;
use crate::parameters::ParameterSource;

/// exp of the initial logit scale: the inverse of the softmax temperature 0.07.
const INITIAL_LOGIT_SCALE: f32 = 1.0 / 0.07;

/// Draws every parameter from its distribution; the same seed gives the same weights.
///
/// The text tower's distributions are those of `initialize_parameters`; the blocks of the vision transformer keep
/// PyTorch's defaults, as officially.
#[derive(Debug)]
pub struct Initialiser<'a> {
    random: ChaCha8Rng,
    text_layers: usize,
    device: &'a Device,
}

impl<'a> Initialiser<'a> {
    /// For a vision-transformer CLIP with a text tower of this architecture.
    pub fn new(text: &TextTowerConfig, seed: u64, device: &'a Device) -> Self {
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            text_layers: text.layers,
            device,
        }
    }

    fn distribution(&self, name: &str, shape: &[usize]) -> Initial {
        let fan_in = shape.iter().skip(1).product::<usize>() as f32;
        let width = shape[shape.len() - 1] as f32;
        // The residual branches shrink with depth so that the sum over layers keeps its variance.
        let depth = (2.0 * self.text_layers as f32).sqrt();
        let visual = name.starts_with("visual.");
        let ends = |end: &str| name.ends_with(end);
        if name == "logit_scale" {
            Initial::Constant(INITIAL_LOGIT_SCALE.ln())
        } else if name.contains("ln_") {
            Initial::Constant(if ends("weight") { 1.0 } else { 0.0 })
        } else if ends("in_proj_bias") || ends("out_proj.bias") {
            Initial::Constant(0.0)
        } else if ends(".bias") {
            // The inputs of an MLP layer: its outputs are 4d in c_fc, d in c_proj.
            let inputs = match ends("c_fc.bias") {
                true => width / 4.0,
                false => width * 4.0,
            };
            Initial::Uniform(inputs.powf(-0.5))
        } else if name == "token_embedding.weight" {
            Initial::Normal(0.02)
        } else if name == "positional_embedding" {
            Initial::Normal(0.01)
        } else if name == "text_projection" || name == "visual.proj" || name == IMAGE_TEACHER_HEAD {
            Initial::Normal((shape[0] as f32).powf(-0.5))
        } else if ends("class_embedding") || ends("visual.positional_embedding") {
            Initial::Normal(width.powf(-0.5))
        } else if visual && ends("in_proj_weight") {
            Initial::Uniform((6.0 / (shape[0] + shape[1]) as f32).sqrt())
        } else if visual {
            Initial::Uniform(fan_in.powf(-0.5))
        } else if ends("in_proj_weight") {
            Initial::Normal(fan_in.powf(-0.5))
        } else if ends("c_fc.weight") {
            Initial::Normal((2.0 * fan_in).powf(-0.5))
        } else {
            // out_proj and c_proj, by the tower's width
            Initial::Normal((shape[0] as f32).powf(-0.5) / depth)
        }
    }
}

impl ParameterSource for Initialiser<'_> {
    type Error = Infallible;

    fn parameter<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Tensor<D>, Infallible> {
        let elements = shape.iter().product();
        let distribution = self.distribution(name, &shape);
        let values = distribution.draw(elements, &mut self.random);
        Ok(Tensor::from_data(
            TensorData::new(values, shape),
            self.device,
        ))
    }
}
