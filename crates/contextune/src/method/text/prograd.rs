//! ProGrad: CoOp whose steps never go against what the words already know (Zhu et al. 2023, "Prompt-aligned Gradient for
//! Prompt Tuning", §3.2).

use std::collections::BTreeMap;

use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

use super::coop::{CoOp, ContextLayout};
use super::guided::{Guidance, GuidedSettings};
use crate::method::{Method, Recipe, SettingError};
use crate::objective::similarity;
use crate::parameters::Parameters;
use crate::task::{Batch, Classify, Prompt, PromptError};
use crate::train::StepOutcome;

/// CoOp with a gradient held against that of the words; the templates are what knows already.
pub type ProGradSettings = GuidedSettings<ProGrad>;

/// The gradient of the cross-entropy, without its part against the gradient of the distance to the words' answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProGrad {
    /// Share λ of the opposing part that is taken away.
    pub weight: f32,
}

impl ProGrad {
    /// As published (Zhu et al. 2023, §3.2).
    pub const PUBLISHED: Self = Self { weight: 1.0 };
}

impl Guidance for ProGrad {
    const NAME: &'static str = "prograd";

    fn check(&self) -> Result<(), SettingError> {
        SettingError::check_factor("weight", self.weight)
    }

    /// As CoOp (BeierZhu/Prompt-align, configs).
    fn published(&self, layout: &ContextLayout, shots: Option<usize>) -> Recipe {
        layout.published(shots)
    }

    fn step(
        &self,
        coop: &CoOp,
        hand_written: &Tensor<2>,
        leaves: &Parameters,
        batch: &Batch<Classify>,
    ) -> Result<StepOutcome, PromptError> {
        let images = batch.inputs.features()?;
        let words = hand_written.clone();
        let known = similarity::logits(images, words, coop.logit_scale());
        let known = activation::softmax(known, 1); // [B, K]

        // A backward pass uses its graph up: each of the two gradients has a forward pass of its own.
        let logits = coop.forward(leaves, &batch.inputs)?; // [B, K]
        let divergence = -(known * activation::log_softmax(logits, 1))
            .sum_dim(1)
            .mean();
        let reference = leaves.gradients(&mut divergence.backward());
        let logits = coop.forward(leaves, &batch.inputs)?; // [B, K]
        let mut outcome = batch.outcome(logits, leaves);
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
