//! CLIP-Adapter: a small network on the image features, mixed with what goes in (Gao et al. 2021, "CLIP-Adapter: Better
//! Vision-Language Models with Feature Adapters", §3.2).

use burn::tensor::{Tensor, activation};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::architecture::ModelConfig;
use crate::input::Inputs;
use crate::method::text::zeroshot::known_or_written;
use crate::method::{Beginning, Lesson, Method, MethodError, Needs, Recipe, SettingError};
use crate::model::Model;
use crate::objective::similarity;
use crate::parameters::{ExpectedTensor, Initial, Parameters, Size};
use crate::task::{Classify, Prompt, PromptError};

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

impl ClipAdapterSettings {
    /// Name and shape of both layers, `[outputs, inputs]`.
    fn layers(model: &ModelConfig) -> [(&'static str, [usize; 2]); 2] {
        let width = model.embedding_width;
        let hidden = width / REDUCTION;
        [(WEIGHT_1, [hidden, width]), (WEIGHT_2, [width, hidden])]
    }
}

impl Method for ClipAdapterSettings {
    const NAME: &'static str = "clip-adapter";

    type Task = Classify;

    fn needs(&self, _model: &ModelConfig) -> Needs {
        Needs::FEATURES_AND_WORDS
    }

    fn check(&self, _model: &ModelConfig) -> Result<(), SettingError> {
        match (0.0..=1.0).contains(&self.ratio) {
            true => Ok(()),
            false => Err(SettingError::new(
                "ratio",
                format!("is {}; a number from 0 to 1 is needed", self.ratio),
            )),
        }
    }

    fn tensors(&self, model: &Model, _classes: Size) -> Result<Vec<ExpectedTensor>, MethodError> {
        let layers = Self::layers(model.config());
        Ok(layers
            .map(|(name, shape)| ExpectedTensor::new(name, &shape))
            .into())
    }

    fn begin(&self, lesson: &Lesson<'_, Classify>) -> Result<Beginning<Classify>, MethodError> {
        let model = lesson.model;
        let mut random = ChaCha8Rng::seed_from_u64(lesson.seed);
        let mut parameters = Parameters::default();
        for (name, shape) in Self::layers(model.config()) {
            let values = Initial::linear(shape[1]).draw(shape.iter().product(), &mut random);
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
    ) -> Result<Box<dyn Prompt<Classify>>, MethodError> {
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

impl Prompt<Classify> for ClipAdapter {
    fn forward(&self, parameters: &Parameters, inputs: &Inputs) -> Result<Tensor<2>, PromptError> {
        let image_features = inputs.features()?;
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

    fn stored_features(&self, _parameters: &Parameters) -> Result<Option<Tensor<2>>, PromptError> {
        Ok(Some(self.words.clone()))
    }
}
