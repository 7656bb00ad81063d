//! The two small fine-tuning baselines of CoOp's paper: a linear layer, or a bias, on the features of hand-written prompts
//! (Zhou et al. 2022, §4.2, "Comparison with Other Fine-tuning Methods"). Their code was not published: both begin as
//! doing nothing, act on features that are not of unit length, and train as CoOp does.

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::architecture::ModelConfig;
use crate::method::text::zeroshot::mean_features;
use crate::method::{Beginning, Lesson, Method, MethodError, Needs, Recipe};
use crate::model::Model;
use crate::parameters::{ExpectedTensor, Parameters, Size};
use crate::task::{ClassFeatures, Classify, LearnedClassifier, Prompt, PromptError, TrainingViews};

const TRANSFORM: &str = "text_transform.weight";
const BIAS: &str = "text_bias";

/// A linear layer on the text features.
pub type TextTransformSettings = TextTuningSettings<true>;
/// A bias on the text features, the same for all classes.
pub type TextBiasSettings = TextTuningSettings<false>;

/// A linear layer, or a bias, on the features of hand-written prompts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextTuningSettings<const TRANSFORMS: bool> {
    /// Hand-written templates, one a line.
    pub templates: String,
}

impl<const TRANSFORMS: bool> TextTuningSettings<TRANSFORMS> {
    fn tuned(
        &self,
        model: &Model,
        class_names: &[String],
    ) -> Result<TunedText<TRANSFORMS>, MethodError> {
        Ok(TunedText {
            words: mean_features(model, class_names, &self.templates)?,
            logit_scale: model.logit_scale()?,
        })
    }

    /// What changes nothing, for features of width D.
    fn nothing(width: usize, device: &Device) -> Parameters {
        let mut parameters = Parameters::default();
        match TRANSFORMS {
            true => parameters.insert(TRANSFORM, Tensor::<2>::eye(width, device)),
            false => parameters.insert(BIAS, Tensor::<1>::zeros([width], device)),
        }
        parameters
    }
}

impl<const TRANSFORMS: bool> Method for TextTuningSettings<TRANSFORMS> {
    const NAME: &'static str = if TRANSFORMS {
        "text-transform"
    } else {
        "text-bias"
    };

    type Task = Classify;

    fn needs(&self, _model: &ModelConfig) -> Needs {
        Needs::FEATURES_AND_WORDS
    }

    fn tensors(&self, model: &Model, _classes: Size) -> Result<Vec<ExpectedTensor>, MethodError> {
        let width = model.config().embedding_width;
        Ok(vec![match TRANSFORMS {
            true => ExpectedTensor::new(TRANSFORM, &[width, width]),
            false => ExpectedTensor::new(BIAS, &[width]),
        }])
    }

    fn begin(&self, lesson: &Lesson<'_, Classify>) -> Result<Beginning<Classify>, MethodError> {
        let model = lesson.model;
        Ok(Beginning {
            prompt: Box::new(self.tuned(model, lesson.class_names)?),
            parameters: Self::nothing(model.config().embedding_width, model.device()),
        })
    }

    fn open(
        &self,
        model: &Model,
        class_names: &[String],
        parameters: &Parameters,
        stored: Option<Tensor<2>>,
    ) -> Result<Box<dyn Prompt<Classify>>, MethodError> {
        let classifier = match stored {
            Some(features) => ClassFeatures::new(features, model.logit_scale()?),
            None => self.tuned(model, class_names)?.classifier(parameters)?,
        };
        Ok(Box::new(classifier))
    }

    fn published(&self, _shots: Option<usize>) -> Recipe {
        Recipe::coop(50, 32)
    }

    /// The layer keeps the published steps: with one or two shots it is worse after few large ones.
    fn fast(&self, shots: Option<usize>) -> Recipe {
        match TRANSFORMS {
            true => Recipe {
                views: TrainingViews::Whole,
                ..self.published(shots)
            },
            false => Recipe::full_batch(shots),
        }
    }
}

/// Features of words, changed alike for all classes.
#[derive(Debug)]
struct TunedText<const TRANSFORMS: bool> {
    /// `[K, D]`, as the text tower gives them, not of unit length.
    words: Tensor<2>,
    logit_scale: Tensor<1>,
}

impl<const TRANSFORMS: bool> LearnedClassifier for TunedText<TRANSFORMS> {
    fn classifier(&self, parameters: &Parameters) -> Result<ClassFeatures, PromptError> {
        let words = self.words.clone();
        let features = match TRANSFORMS {
            true => words.matmul(parameters.get::<2>(TRANSFORM)?.transpose()),
            false => words + parameters.get::<1>(BIAS)?.unsqueeze(),
        }; // [K, D]
        Ok(ClassFeatures::new(features, self.logit_scale.clone()))
    }
}
