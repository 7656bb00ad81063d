//! Fine-tuning the image encoder, the baseline that CoOp's paper warns of (Zhou et al. 2022, §4.2, "Comparison with Other
//! Fine-tuning Methods"): every parameter of the image tower learns, the classes keep the features of hand-written words.
//! Its code and settings were not published: it trains as CoOp does.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::architecture::ModelConfig;
use crate::backbone::{ImageTower, PixelNormalisation};
use crate::input::Inputs;
use crate::method::text::zeroshot::known_or_written;
use crate::method::{Beginning, Lesson, Method, MethodError, Needs, Recipe};
use crate::model::Model;
use crate::objective::similarity;
use crate::parameters::{ExpectedTensor, Parameters, Size};
use crate::task::{Classify, Prompt, PromptError};

/// BatchNorm's running statistics, by the ends of their names: CLIP stays in evaluation mode, they do not learn.
const STATISTICS: [&str; 2] = ["running_mean", "running_var"];

/// The whole image tower.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageEncoderSettings {
    /// Hand-written templates, one a line.
    pub templates: String,
}

impl Method for ImageEncoderSettings {
    const NAME: &'static str = "image-encoder";

    type Task = Classify;

    fn needs(&self, model: &ModelConfig) -> Needs {
        Needs {
            text_tower: true,
            ..Needs::pixels(model.image.image_size())
        }
    }

    fn tensors(&self, model: &Model, _classes: Size) -> Result<Vec<ExpectedTensor>, MethodError> {
        let weights = model.image_weights();
        Ok(weights
            .map(|(name, shape)| ExpectedTensor::new(name.to_owned(), shape))
            .collect())
    }

    fn begin(&self, lesson: &Lesson<'_, Classify>) -> Result<Beginning<Classify>, MethodError> {
        let mut parameters = lesson.model.image_parameters()?;
        let names: Vec<String> = parameters.names().map(str::to_owned).collect();
        for name in names {
            if STATISTICS.iter().any(|end| name.ends_with(end)) {
                parameters.hold_constant(&name);
            }
        }
        let prompt = self.open(lesson.model, lesson.class_names, &parameters, None)?;
        Ok(Beginning { prompt, parameters })
    }

    fn open(
        &self,
        model: &Model,
        class_names: &[String],
        _parameters: &Parameters,
        stored: Option<Tensor<2>>,
    ) -> Result<Box<dyn Prompt<Classify>>, MethodError> {
        Ok(Box::new(ImageEncoder {
            words: known_or_written(stored, model, class_names, &self.templates)?,
            config: model.config().clone(),
            normalisation: model.normalisation(),
            logit_scale: model.logit_scale()?,
            tower: None,
        }))
    }

    fn published(&self, _shots: Option<usize>) -> Recipe {
        Recipe::coop(50, 32)
    }
}

/// A tower of the learned parameters in front of fixed class features.
#[derive(Clone, Debug)]
struct ImageEncoder {
    /// `[K, D]`
    words: Tensor<2>,
    config: ModelConfig,
    normalisation: PixelNormalisation,
    logit_scale: Tensor<1>,
    /// Built once nothing is learned any more.
    tower: Option<ImageTower>,
}

impl ImageEncoder {
    fn tower(&self, parameters: &Parameters) -> Result<ImageTower, PromptError> {
        match &self.tower {
            Some(tower) => Ok(tower.clone()),
            None => Ok(ImageTower::build(&mut &*parameters, &self.config)?),
        }
    }
}

impl Prompt<Classify> for ImageEncoder {
    fn forward(&self, parameters: &Parameters, inputs: &Inputs) -> Result<Tensor<2>, PromptError> {
        let pixels = self.normalisation.forward(inputs.pixels()?);
        let images = self.tower(parameters)?.forward(pixels); // [B, D]
        let (words, scale) = (self.words.clone(), self.logit_scale.clone());
        Ok(similarity::logits(images, words, scale))
    }

    fn ready(
        &self,
        parameters: &Parameters,
    ) -> Result<Option<Box<dyn Prompt<Classify>>>, PromptError> {
        let tower = Some(self.tower(parameters)?);
        let ready = self.clone();
        Ok(Some(Box::new(Self { tower, ..ready })))
    }

    fn stored_features(&self, _parameters: &Parameters) -> Result<Option<Tensor<2>>, PromptError> {
        Ok(Some(self.words.clone()))
    }
}
