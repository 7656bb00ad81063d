//! ProGrad: CoOp whose steps never go against what the words already know (Zhu et al. 2023, "Prompt-aligned Gradient for
//! Prompt Tuning", §3.2).

use std::collections::BTreeMap;

use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

use super::coop::{CoOp, ContextLayout};
use super::zeroshot::known_or_written;
use super::{Batch, Beginning, Learn, Lesson, MethodError, Prompt, Recipe};
use crate::model::Model;
use crate::objective::similarity;
use crate::train::{Parameters, StepOutcome, TrainError};

/// CoOp with a gradient held against the words' own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProGradSettings {
    /// What is learned, and where it stands.
    #[serde(flatten)]
    pub layout: ContextLayout,
    /// Hand-written templates that know already, one a line.
    pub templates: String,
    /// Share λ of the opposing part that is taken away; 1 as published.
    pub weight: f32,
}

impl ProGradSettings {
    /// Share λ of the opposing part that is taken away, as published (Zhu et al. 2023, §3.2).
    pub const PUBLISHED_WEIGHT: f32 = 1.0;
}

impl Learn for ProGradSettings {
    fn begin(&self, lesson: &Lesson<'_>) -> Result<Beginning, MethodError> {
        let (model, names) = (lesson.model, lesson.class_names);
        let prompt = ProGrad {
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

    /// As CoOp (BeierZhu/Prompt-align, configs).
    fn published(&self, shots: Option<usize>) -> Recipe {
        self.layout.published(shots)
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

/// The gradient of the cross-entropy, without its part against the gradient of the distance to the words' answers.
#[derive(Debug)]
pub struct ProGrad {
    coop: CoOp,
    /// `[K, D]`
    hand_written: Tensor<2>,
    weight: f32,
}

impl ProGrad {
    /// `hand_written` `[K, D]` are the features of the words that know already.
    pub fn new(coop: CoOp, hand_written: Tensor<2>, weight: f32) -> Self {
        Self {
            coop,
            hand_written,
            weight,
        }
    }
}

impl Prompt for ProGrad {
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
        let images = batch.image_features.clone();
        let words = self.hand_written.clone();
        let known = similarity::logits(images.clone(), words, self.coop.logit_scale());
        let known = activation::softmax(known, 1); // [B, K]

        // A backward pass uses its graph up: each of the two gradients has a forward pass of its own.
        let logits = self.coop.logits(leaves, images.clone())?; // [B, K]
        let divergence = -(known * activation::log_softmax(logits, 1))
            .sum_dim(1)
            .mean();
        let reference = leaves.gradients(&mut divergence.backward());
        let logits = self.coop.logits(leaves, images)?; // [B, K]
        let correct = batch.correct(&logits);
        let loss = similarity::cross_entropy(logits, batch.labels.clone());
        let mut outcome = StepOutcome::backward(loss, leaves, correct, batch.examples());
        hold_against(&mut outcome.gradients, &reference, self.weight);
        Ok(outcome)
    }
}

/// Takes from each gradient g its part against the reference r, where they oppose: g − λ (g·r̂) r̂.
fn hold_against(
    gradients: &mut BTreeMap<String, Tensor<1>>,
    reference: &BTreeMap<String, Tensor<1>>,
    weight: f32,
) {
    for (name, gradient) in gradients {
        let Some(reference) = reference.get(name) else {
            continue;
        };
        let length: f32 = reference.clone().square().sum().sqrt().into_scalar();
        if length == 0.0 {
            continue; // no direction to go against
        }
        let direction = reference.clone() / length;
        let along: f32 = (gradient.clone() * direction.clone()).sum().into_scalar();
        if along < 0.0 {
            *gradient = gradient.clone() - direction * (weight * along);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn only_the_opposing_part_is_taken_away() {
        let device = Device::flex();
        let vector = |values: [f32; 2]| Tensor::<1>::from_floats(values, &device);
        let held = |gradient, reference| -> Vec<f32> {
            let mut gradients = BTreeMap::from([("ctx".to_owned(), vector(gradient))]);
            let reference = BTreeMap::from([("ctx".to_owned(), vector(reference))]);
            hold_against(&mut gradients, &reference, 1.0);
            gradients["ctx"].clone().into_data().try_to_vec().unwrap()
        };
        assert_eq!(held([3.0, 4.0], [0.0, -2.0]), [3.0, 0.0]);
        assert_eq!(held([3.0, 4.0], [1.0, 2.0]), [3.0, 4.0]);
        assert_eq!(held([3.0, 4.0], [0.0, 0.0]), [3.0, 4.0]);
    }
}
