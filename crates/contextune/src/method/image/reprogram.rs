//! Adversarial reprogramming: a program of pixels around a small picture makes a frozen classifier do another task (Elsayed,
//! Goodfellow, Sohl-Dickstein 2018, "Adversarial Reprogramming of Neural Networks", §3).
//!
//! X_adv = X̃ + tanh(W ⊙ M): X̃ is the task's picture in the middle of an empty canvas, M is zero where the picture lies; both
//! are in −1..1, and W is learned.

use burn::tensor::Tensor;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::source::{OnPixels, Source, Target, on_canvas};
use crate::method::{Recipe, SettingError};
use crate::parameters::{Initial, Parameters};
use crate::task::{Batch, Classify, PromptError, Task, TrainingViews};
use crate::train::{FitSettings, Optimizer, Schedule, StepOutcome};

/// Name of W, `[1, 3, size, size]`.
const PROGRAM: &str = "program";

/// A program around a small picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReprogramSettings {
    /// Side of the task's picture in pixels.
    pub side: usize,
    /// Factor λ of ‖W‖², the mean over the batch of the loss being 1.
    pub penalty: f32,
    /// What the model's outputs mean.
    pub target: Target,
}

impl OnPixels for ReprogramSettings {
    const NAME: &'static str = "reprogram";

    // All of the small picture is the task.
    const MARGIN: bool = false;

    fn target(&self) -> &Target {
        &self.target
    }

    fn side(&self, _image_size: usize) -> usize {
        self.side
    }

    fn fits(&self, image_size: usize) -> Result<(), SettingError> {
        SettingError::check_factor("penalty", self.penalty)?;
        match (1..image_size).contains(&self.side) {
            true => Ok(()),
            false => Err(SettingError::new(
                "side",
                format!(
                    "is {}; the model's input is {image_size} pixels wide, so 1 to {} leave room for a program",
                    self.side,
                    image_size - 1
                ),
            )),
        }
    }

    fn parameters(&self, image_size: usize) -> Vec<(&'static str, [usize; 4], Initial)> {
        let shape = [1, 3, image_size, image_size];
        vec![(PROGRAM, shape, Initial::Constant(0.0))]
    }

    fn prompted(
        &self,
        source: &Source,
        parameters: &Parameters,
        pixels: Tensor<4>,
        _random: &mut ChaCha8Rng,
    ) -> Result<Tensor<4>, PromptError> {
        let (side, size) = (self.side, source.image_size);
        let picture = pixels * 2.0 - 1.0;
        let margin = [(size - side) / 2; 2];
        let hidden = Tensor::ones([1, 3, side, side], &picture.device());
        let mask = on_canvas(hidden, size, margin).neg() + 1.0; // M
        let program = (parameters.get::<4>(PROGRAM)? * mask).tanh();
        let canvas = on_canvas(picture, size, margin); // X̃
        let pixels = (canvas + program + 1.0) / 2.0;
        Ok(source.normalisation.forward(pixels))
    }

    /// −log P(h_g(y) | X_adv) + λ‖W‖².
    fn step(
        &self,
        leaves: &Parameters,
        batch: &Batch<Classify>,
        logits: Tensor<2>,
    ) -> Result<StepOutcome, PromptError> {
        let correct = Classify::correct(&logits, &batch.targets);
        let penalty = leaves.get::<4>(PROGRAM)?.square().sum() * self.penalty;
        let loss = Classify::loss(logits, &batch.targets) + penalty;
        Ok(batch.backward(loss, leaves, correct))
    }

    /// Adam at 0.05 (Elsayed et al. 2018, appendix A); the number of epochs is not published.
    fn published(&self) -> Recipe {
        Recipe {
            batch_size: Some(50),
            least_area: 8,
            views: TrainingViews::Whole,
            fit: FitSettings {
                epochs: 100,
                learning_rate: 0.05,
                optimizer: Optimizer::ADAM,
                schedule: Schedule::Cosine,
            },
        }
    }

    fn fast(&self) -> Recipe {
        let published = self.published();
        Recipe {
            batch_size: Some(32),
            fit: FitSettings {
                epochs: 30,
                ..published.fit
            },
            ..published
        }
    }
}
