//! CLIP-Adapter: a small network on the image features, mixed with what goes in (Gao et al. 2021, "CLIP-Adapter: Better
//! Vision-Language Models with Feature Adapters", §3.2).

use burn::tensor::{Tensor, activation};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::zeroshot::known_or_written;
use super::{Beginning, Learn, Lesson, MethodError, Prompt, Recipe};
use crate::model::Model;
use crate::objective::similarity;
use crate::train::{Initial, Parameters, TrainError};

/// The official names of both layers, `[D / 4, D]` and `[D, D / 4]`.
const WEIGHT_1: &str = "fc.0.weight";
const WEIGHT_2: &str = "fc.2.weight";
/// The hidden layer is so many times narrower than an image feature.
const REDUCTION: usize = 4;

/// An adapter for image features; the classes keep the features of hand-written words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClipAdapterSettings {
    /// Hand-written templates, one a line.
    pub templates: String,
    /// Share of the adapted feature in the mixture; 0.2 as published.
    pub ratio: f32,
}

impl Learn for ClipAdapterSettings {
    fn begin(&self, lesson: &Lesson<'_>) -> Result<Beginning, MethodError> {
        let model = lesson.model;
        let width = model.config().embedding_width;
        let hidden = width / REDUCTION;
        let mut random = ChaCha8Rng::seed_from_u64(lesson.seed);
        let mut parameters = Parameters::default();
        for (name, shape) in [(WEIGHT_1, [hidden, width]), (WEIGHT_2, [width, hidden])] {
            let values = Initial::linear(shape[1]).draw(hidden * width, &mut random);
            parameters.insert_data(name, &shape, values, model.device());
        }
        let prompt = self.open(model, lesson.class_names, &parameters, None)?;
        Ok(Beginning { prompt, parameters })
    }

    fn open(
        &self,
        model: &Model,
        class_names: &[String],
        _parameters: &Parameters,
        stored: Option<Tensor<2>>,
    ) -> Result<Box<dyn Prompt>, MethodError> {
        Ok(Box::new(ClipAdapter {
            words: known_or_written(stored, model, class_names, &self.templates)?,
            ratio: self.ratio,
            logit_scale: model.logit_scale()?,
        }))
    }

    /// gaopengcuhk/CLIP-Adapter publishes the model and no settings of its own: CoOp's.
    fn published(&self, shots: Option<usize>) -> Recipe {
        let epochs = match shots {
            Some(1) => 50,
            Some(2..=4) => 100,
            _ => 200,
        };
        Recipe::coop(epochs, 32)
    }
}

/// α · ReLU(W₂ ReLU(W₁ x)) + (1 − α) · x in place of each image feature x.
#[derive(Debug)]
struct ClipAdapter {
    /// `[K, D]`
    words: Tensor<2>,
    ratio: f32,
    logit_scale: Tensor<1>,
}

impl Prompt for ClipAdapter {
    fn logits(
        &self,
        parameters: &Parameters,
        image_features: Tensor<2>,
    ) -> Result<Tensor<2>, TrainError> {
        let (first, second) = (
            parameters.get::<2>(WEIGHT_1)?,
            parameters.get::<2>(WEIGHT_2)?,
        );
        let hidden = activation::relu(image_features.clone().matmul(first.transpose())); // [B, D / 4]
        let adapted = activation::relu(hidden.matmul(second.transpose())); // [B, D]
        let mixed = adapted * self.ratio + image_features * (1.0 - self.ratio);
        let (words, scale) = (self.words.clone(), self.logit_scale.clone());
        Ok(similarity::logits(mixed, words, scale))
    }

    fn stored_features(&self, _parameters: &Parameters) -> Result<Option<Tensor<2>>, TrainError> {
        Ok(Some(self.words.clone()))
    }
}
