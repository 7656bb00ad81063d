//! The two small fine-tuning baselines of CoOp's paper: a linear layer, or a bias, on the features of hand-written prompts
//! (Zhou et al. 2022, §4.2, "Comparison with Other Fine-tuning Methods"). Their code was not published: both begin as
//! doing nothing, act on features that are not of unit length, and train as CoOp does.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::class_features::ClassFeatures;
use super::zeroshot::mean_features;
use super::{Beginning, Learn, Lesson, MethodError, Prompt, Recipe};
use crate::model::Model;
use crate::train::{Parameters, TrainError};

const TRANSFORM: &str = "text_transform.weight";
const BIAS: &str = "text_bias";

/// A linear layer on the text features.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextTransformSettings {
    /// Hand-written templates, one a line.
    pub templates: String,
}

/// A bias on the text features, the same for all classes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextBiasSettings {
    /// Hand-written templates, one a line.
    pub templates: String,
}

/// What is done to the features of the words.
#[derive(Clone, Copy, Debug)]
enum Tuning {
    /// `[D, D]`
    Transform,
    /// `[D]`
    Bias,
}

/// Features of words, changed alike for all classes.
#[derive(Debug)]
struct TunedText {
    /// `[K, D]`, as the text tower gives them, not of unit length.
    words: Tensor<2>,
    tuning: Tuning,
    logit_scale: Tensor<1>,
}

impl TunedText {
    fn of_model(
        model: &Model,
        class_names: &[String],
        templates: &str,
        tuning: Tuning,
    ) -> Result<Self, MethodError> {
        Ok(Self {
            words: mean_features(model, class_names, templates)?,
            tuning,
            logit_scale: model.logit_scale()?,
        })
    }

    fn classifier(&self, parameters: &Parameters) -> Result<ClassFeatures, TrainError> {
        let words = self.words.clone();
        let features = match self.tuning {
            Tuning::Transform => words.matmul(parameters.get::<2>(TRANSFORM)?.transpose()),
            Tuning::Bias => words + parameters.get::<1>(BIAS)?.unsqueeze(),
        }; // [K, D]
        Ok(ClassFeatures::new(features, self.logit_scale.clone()))
    }
}

impl Prompt for TunedText {
    fn logits(
        &self,
        parameters: &Parameters,
        image_features: Tensor<2>,
    ) -> Result<Tensor<2>, TrainError> {
        Ok(self.classifier(parameters)?.classify(image_features))
    }

    fn class_features(&self, parameters: &Parameters) -> Result<Option<ClassFeatures>, TrainError> {
        self.classifier(parameters).map(Some)
    }
}

/// [`Learn::begin`] of both: doing nothing.
fn begin(lesson: &Lesson<'_>, templates: &str, tuning: Tuning) -> Result<Beginning, MethodError> {
    let Lesson {
        model, class_names, ..
    } = *lesson;
    let (width, device) = (model.config().embedding_width, model.device());
    let mut parameters = Parameters::default();
    match tuning {
        Tuning::Transform => parameters.insert(TRANSFORM, Tensor::<2>::eye(width, device)),
        Tuning::Bias => parameters.insert(BIAS, Tensor::<1>::zeros([width], device)),
    }
    let prompt = TunedText::of_model(model, class_names, templates, tuning)?;
    Ok(Beginning {
        prompt: Box::new(prompt),
        parameters,
    })
}

/// [`Learn::open`] of both.
fn open(
    model: &Model,
    class_names: &[String],
    parameters: &Parameters,
    stored: Option<Tensor<2>>,
    (templates, tuning): (&str, Tuning),
) -> Result<Box<dyn Prompt>, MethodError> {
    let classifier = match stored {
        Some(features) => ClassFeatures::new(features, model.logit_scale()?),
        None => {
            TunedText::of_model(model, class_names, templates, tuning)?.classifier(parameters)?
        }
    };
    Ok(Box::new(classifier))
}

impl Learn for TextTransformSettings {
    fn begin(&self, lesson: &Lesson<'_>) -> Result<Beginning, MethodError> {
        begin(lesson, &self.templates, Tuning::Transform)
    }

    fn open(
        &self,
        model: &Model,
        class_names: &[String],
        parameters: &Parameters,
        stored: Option<Tensor<2>>,
    ) -> Result<Box<dyn Prompt>, MethodError> {
        let how = (self.templates.as_str(), Tuning::Transform);
        open(model, class_names, parameters, stored, how)
    }

    fn published(&self, _shots: Option<usize>) -> Recipe {
        Recipe::coop(50, 32)
    }
}

impl Learn for TextBiasSettings {
    fn begin(&self, lesson: &Lesson<'_>) -> Result<Beginning, MethodError> {
        begin(lesson, &self.templates, Tuning::Bias)
    }

    fn open(
        &self,
        model: &Model,
        class_names: &[String],
        parameters: &Parameters,
        stored: Option<Tensor<2>>,
    ) -> Result<Box<dyn Prompt>, MethodError> {
        let how = (self.templates.as_str(), Tuning::Bias);
        open(model, class_names, parameters, stored, how)
    }

    fn published(&self, _shots: Option<usize>) -> Recipe {
        Recipe::coop(50, 32)
    }

    fn fast(&self, shots: Option<usize>) -> Recipe {
        Recipe::full_batch(shots)
    }
}
