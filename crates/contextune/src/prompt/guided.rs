//! CoOp with hand-written words as its guide: what KgCoOp and ProGrad have in common. What a step makes of the words is
//! the [`Guidance`], and theirs.

use std::fmt::Debug;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::class_features::ClassFeatures;
use super::coop::{CoOp, ContextLayout};
use super::zeroshot::known_or_written;
use super::{Batch, Beginning, Learn, Lesson, MethodError, Prompt, Recipe};
use crate::model::Model;
use crate::train::{Parameters, StepOutcome, TrainError};

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
pub trait Guidance: Clone + Debug + Send + Sync + 'static {
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
        batch: &Batch,
    ) -> Result<StepOutcome, TrainError>;
}

impl<G: Guidance> Learn for GuidedSettings<G> {
    fn begin(&self, lesson: &Lesson<'_>) -> Result<Beginning, MethodError> {
        let (model, names) = (lesson.model, lesson.class_names);
        let prompt = Guided {
            coop: CoOp::of_model(model, names, &self.layout)?,
            hand_written: known_or_written(None, model, names, &self.templates)?,
            guidance: self.guidance.clone(),
        };
        Ok(Beginning {
            prompt: Box::new(prompt),
            parameters: lesson.initial.parameters(lesson, &self.layout)?,
        })
    }

    fn open(
        &self,
        model: &Model,
        class_names: &[String],
        parameters: &Parameters,
        stored: Option<Tensor<2>>,
    ) -> Result<Box<dyn Prompt>, MethodError> {
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

impl<G: Guidance> Prompt for Guided<G> {
    fn logits(
        &self,
        parameters: &Parameters,
        image_features: Tensor<2>,
    ) -> Result<Tensor<2>, TrainError> {
        self.coop.logits(parameters, image_features)
    }

    fn class_features(&self, parameters: &Parameters) -> Result<Option<ClassFeatures>, TrainError> {
        self.coop.class_features(parameters)
    }

    fn step(&self, leaves: &Parameters, batch: &Batch) -> Result<StepOutcome, TrainError> {
        self.guidance
            .step(&self.coop, &self.hand_written, leaves, batch)
    }
}
