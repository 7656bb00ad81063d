//! CoOp with hand-written words as its guide: what KgCoOp and ProGrad have in common. What a step makes of the words is
//! the [`Guidance`], and theirs.

use std::fmt::Debug;

use burn::tensor::Tensor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::coop::{CoOp, ContextLayout, initial_context};
use super::zeroshot::known_or_written;
use crate::architecture::ModelConfig;
use crate::input::Inputs;
use crate::method::{Beginning, Lesson, Method, MethodError, Needs, Recipe, SettingError};
use crate::model::Model;
use crate::parameters::{ExpectedTensor, Parameters, Size};
use crate::task::{Batch, ClassFeatures, Classify, Prompt, PromptError};
use crate::train::StepOutcome;

/// CoOp, hand-written words, and how a step heeds them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuidedSettings<G> {
    /// What is learned, and where it stands.
    #[serde(flatten)]
    pub layout: ContextLayout,
    /// The hand-written templates, one a line.
    pub templates: String,
    /// How a step heeds them.
    #[serde(flatten)]
    pub guidance: G,
}

/// How a step of CoOp heeds hand-written words.
pub trait Guidance:
    Serialize + DeserializeOwned + Clone + PartialEq + Debug + Send + Sync + 'static
{
    /// The method's name, as [`Method::NAME`].
    const NAME: &'static str;

    /// Refuses a factor that cannot be used.
    ///
    /// # Errors
    /// The setting `weight`.
    fn check(&self) -> Result<(), SettingError>;

    /// How the method's authors train it with so many pictures of each class; `None`: with all.
    fn published(&self, layout: &ContextLayout, shots: Option<usize>) -> Recipe;

    /// Loss and gradients of one batch; `hand_written` `[K, D]`, of unit length, are the features of the words.
    ///
    /// # Errors
    /// Whatever the prompt reports.
    fn step(
        &self,
        coop: &CoOp,
        hand_written: &Tensor<2>,
        leaves: &Parameters,
        batch: &Batch<Classify>,
    ) -> Result<StepOutcome, PromptError>;
}

impl<G: Guidance> Method for GuidedSettings<G> {
    const NAME: &'static str = G::NAME;

    type Task = Classify;

    fn needs(&self, _model: &ModelConfig) -> Needs {
        Needs::FEATURES_AND_WORDS
    }

    fn check(&self, model: &ModelConfig) -> Result<(), SettingError> {
        self.guidance.check()?;
        self.layout.check(model)
    }

    fn tensors(&self, model: &Model, classes: Size) -> Result<Vec<ExpectedTensor>, MethodError> {
        self.layout.tensors(model, classes)
    }

    fn begin(&self, lesson: &Lesson<'_, Classify>) -> Result<Beginning<Classify>, MethodError> {
        let (model, names) = (lesson.model, lesson.class_names);
        let prompt = Guided {
            coop: CoOp::of_model(model, names, &self.layout)?,
            hand_written: known_or_written(None, model, names, &self.templates)?,
            guidance: self.guidance.clone(),
        };
        Ok(Beginning {
            prompt: Box::new(prompt),
            parameters: initial_context(lesson, &self.layout)?,
        })
    }

    fn open(
        &self,
        model: &Model,
        class_names: &[String],
        parameters: &Parameters,
        stored: Option<Tensor<2>>,
    ) -> Result<Box<dyn Prompt<Classify>>, MethodError> {
        self.layout.open(model, class_names, parameters, stored)
    }

    fn published(&self, shots: Option<usize>) -> Recipe {
        self.guidance.published(&self.layout, shots)
    }

    fn fast(&self, shots: Option<usize>) -> Recipe {
        self.layout.fast(shots)
    }

    fn context_layout(&self) -> Option<ContextLayout> {
        Some(self.layout.clone())
    }

    fn takes_other_classes(&self) -> bool {
        self.layout.takes_other_classes()
    }
}

/// Classifies as CoOp does; only its steps are others.
#[derive(Debug)]
struct Guided<G> {
    coop: CoOp,
    /// `[K, D]`, of unit length.
    hand_written: Tensor<2>,
    guidance: G,
}

impl<G: Guidance> Prompt<Classify> for Guided<G> {
    fn forward(&self, parameters: &Parameters, inputs: &Inputs) -> Result<Tensor<2>, PromptError> {
        self.coop.forward(parameters, inputs)
    }

    fn ready(
        &self,
        parameters: &Parameters,
    ) -> Result<Option<Box<dyn Prompt<Classify>>>, PromptError> {
        self.coop.ready(parameters)
    }

    fn class_features(
        &self,
        parameters: &Parameters,
    ) -> Result<Option<ClassFeatures>, PromptError> {
        self.coop.class_features(parameters)
    }

    fn step(
        &self,
        leaves: &Parameters,
        batch: &Batch<Classify>,
    ) -> Result<StepOutcome, PromptError> {
        self.guidance
            .step(&self.coop, &self.hand_written, leaves, batch)
    }
}
