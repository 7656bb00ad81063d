//! KgCoOp: CoOp that stays near the words a person would write (Yao et al. 2023, "Visual-Language Prompt Tuning with
//! Knowledge-guided Context Optimization", §3.2).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::coop::{CoOp, ContextLayout};
use super::zeroshot::known_or_written;
use super::{Batch, Beginning, Learn, Lesson, MethodError, Prompt, Recipe};
use crate::model::Model;
use crate::objective::contrastive::distillation_loss;
use crate::objective::similarity;
use crate::train::{Parameters, StepOutcome, TrainError};

/// CoOp with a second loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KgCoOpSettings {
    /// What is learned, and where it stands.
    #[serde(flatten)]
    pub layout: ContextLayout,
    /// Hand-written templates to stay near to, one a line.
    pub templates: String,
    /// Factor λ of the distance; 8 as published.
    pub weight: f32,
}

impl KgCoOpSettings {
    /// Factor λ of the distance, as published (Yao et al. 2023, §4.1).
    pub const PUBLISHED_WEIGHT: f32 = 8.0;
}

impl Learn for KgCoOpSettings {
    fn begin(&self, lesson: &Lesson<'_>) -> Result<Beginning, MethodError> {
        let (model, names) = (lesson.model, lesson.class_names);
        let prompt = KgCoOp {
            coop: CoOp::of_model(model, names, &self.layout)?,
            hand_written: known_or_written(None, model, names, &self.templates)?,
            weight: self.weight,
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

    /// A hundred epochs of 128 pictures a step (Yao et al. 2023, §4.1).
    fn published(&self, _shots: Option<usize>) -> Recipe {
        Recipe::coop(100, 128)
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

/// Cross-entropy + λ · mean over the classes of 1 − cosine to the hand-written feature.
#[derive(Debug)]
pub struct KgCoOp {
    coop: CoOp,
    /// `[K, D]`
    hand_written: Tensor<2>,
    weight: f32,
}

impl KgCoOp {
    /// `hand_written` `[K, D]` are the features to stay near to.
    pub fn new(coop: CoOp, hand_written: Tensor<2>, weight: f32) -> Self {
        Self {
            coop,
            hand_written,
            weight,
        }
    }
}

impl Prompt for KgCoOp {
    fn logits(
        &self,
        parameters: &Parameters,
        image_features: Tensor<2>,
    ) -> Result<Tensor<2>, TrainError> {
        self.coop.logits(parameters, image_features)
    }

    fn class_features(&self, parameters: &Parameters) -> Result<Option<Tensor<2>>, TrainError> {
        self.coop.class_features(parameters)
    }

    fn step(&self, leaves: &Parameters, batch: &Batch) -> Result<StepOutcome, TrainError> {
        let texts = self.coop.text_features(leaves)?; // [K, D]
        let images = batch.image_features.clone();
        let logits = similarity::logits(images, texts.clone(), self.coop.logit_scale()); // [B, K]
        let correct = batch.correct(&logits);
        let distance = distillation_loss(texts, self.hand_written.clone());
        let loss = similarity::cross_entropy(logits, batch.labels.clone()) + distance * self.weight;
        Ok(StepOutcome::backward(
            loss,
            leaves,
            correct,
            batch.examples(),
        ))
    }
}
