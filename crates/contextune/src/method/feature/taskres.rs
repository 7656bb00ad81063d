//! TaskRes: a residual for each class on the features of its words (Yu et al. 2023, "Task Residual for Tuning
//! Vision-Language Models", §3.2).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::architecture::ModelConfig;
use crate::method::text::zeroshot::mean_features;
use crate::method::{Beginning, Lesson, Method, MethodError, Needs, Recipe, SettingError};
use crate::model::Model;
use crate::parameters::{ExpectedTensor, Parameters, Size};
use crate::task::{ClassFeatures, Classify, LearnedClassifier, Prompt, PromptError, TrainingViews};
use crate::train::{FitSettings, Optimizer, Schedule};

/// The official name of the residuals x, `[K, D]`.
const RESIDUALS: &str = "text_feature_residuals";
/// The official name of the words' features t, `[K, D]`, not of unit length.
const BASE: &str = "base_text_features";

/// Residuals on the features of hand-written templates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskResSettings {
    /// Hand-written templates, one a line; the mean of their features, not brought to unit length, is the base.
    pub templates: String,
    /// Factor α of the residuals; 0.5 as published (1 for flowers).
    pub residual_scale: f32,
}

impl Method for TaskResSettings {
    const NAME: &'static str = "taskres";

    type Task = Classify;

    fn needs(&self, _model: &ModelConfig) -> Needs {
        Needs::FEATURES_AND_WORDS
    }

    fn check(&self, _model: &ModelConfig) -> Result<(), SettingError> {
        match self.residual_scale.is_finite() {
            true => Ok(()),
            false => Err(SettingError::new(
                "residual-scale",
                format!("is {}; a finite number is needed", self.residual_scale),
            )),
        }
    }

    fn tensors(&self, model: &Model, classes: Size) -> Result<Vec<ExpectedTensor>, MethodError> {
        let shape = [classes, Size::Exactly(model.config().embedding_width)];
        Ok([RESIDUALS, BASE]
            .map(|name| ExpectedTensor::sized(name, &shape))
            .into())
    }

    fn begin(&self, lesson: &Lesson<'_, Classify>) -> Result<Beginning<Classify>, MethodError> {
        let base = mean_features(lesson.model, lesson.class_names, &self.templates)?;
        let mut parameters = Parameters::default();
        parameters.insert(RESIDUALS, base.zeros_like());
        parameters.insert_constant(BASE, base);
        Ok(Beginning {
            prompt: Box::new(TaskRes {
                residual_scale: self.residual_scale,
                logit_scale: lesson.model.logit_scale()?,
            }),
            parameters,
        })
    }

    fn open(
        &self,
        model: &Model,
        _class_names: &[String],
        parameters: &Parameters,
        _stored: Option<Tensor<2>>,
    ) -> Result<Box<dyn Prompt<Classify>>, MethodError> {
        let prompt = TaskRes {
            residual_scale: self.residual_scale,
            logit_scale: model.logit_scale()?,
        };
        Ok(Box::new(prompt.classifier(parameters)?))
    }

    /// geekyutao/TaskRes, `train_regular.sh`.
    fn published(&self, shots: Option<usize>) -> Recipe {
        let epochs = match shots {
            Some(1..=4) => 100,
            _ => 200,
        };
        Recipe {
            batch_size: Some(256),
            least_area: 8,
            views: TrainingViews::Fresh,
            fit: FitSettings {
                epochs,
                learning_rate: 2e-3,
                optimizer: Optimizer::Adam {
                    betas: [0.9, 0.999],
                    epsilon: 1e-8,
                    weight_decay: 5e-4,
                },
                schedule: Schedule::CoOp { warmup: 1e-5 },
            },
        }
    }

    fn fast(&self, shots: Option<usize>) -> Recipe {
        Recipe::full_batch(shots)
    }

    fn takes_other_classes(&self) -> bool {
        false
    }
}

/// t + α x for each class.
#[derive(Debug)]
struct TaskRes {
    residual_scale: f32,
    logit_scale: Tensor<1>,
}

impl LearnedClassifier for TaskRes {
    fn classifier(&self, parameters: &Parameters) -> Result<ClassFeatures, PromptError> {
        let base = parameters.get::<2>(BASE)?;
        let features = base + parameters.get::<2>(RESIDUALS)? * self.residual_scale; // [K, D]
        Ok(ClassFeatures::new(features, self.logit_scale.clone()))
    }
}
