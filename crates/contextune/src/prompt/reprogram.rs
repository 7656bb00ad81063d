//! Adversarial reprogramming: a program of pixels around a small picture makes a frozen classifier do another task (Elsayed,
//! Goodfellow, Sohl-Dickstein 2018, "Adversarial Reprogramming of Neural Networks", §3).
//!
//! X_adv = X̃ + tanh(W ⊙ M): X̃ is the task's picture in the middle of an empty canvas, M is zero where the picture lies; both
//! are in −1..1, and W is learned.

use burn::tensor::Tensor;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::source::{OnPixels, Prompted, Source, Target, on_canvas};
use super::{Batch, Beginning, Learn, Lesson, MethodError, Prompt, Recipe, TrainingViews};
use crate::features::Sees;
use crate::model::Model;
use crate::objective::similarity;
use crate::train::{
    FitSettings, Initial, Optimizer, Parameters, Schedule, StepOutcome, TrainError,
};

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
    fn target(&self) -> &Target {
        &self.target
    }

    fn side(&self, _image_size: usize) -> usize {
        self.side
    }

    fn fits(&self, image_size: usize) -> Result<(), MethodError> {
        match (1..image_size).contains(&self.side) {
            true => Ok(()),
            false => Err(MethodError::Combination(format!(
                "--side is {}; the model's input is {image_size} pixels wide, so 1 to {} leave room for a program",
                self.side,
                image_size - 1
            ))),
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
        pixels: Tensor<2>,
        _random: &mut ChaCha8Rng,
    ) -> Result<Tensor<4>, TrainError> {
        let (side, size) = (self.side, source.image_size);
        let batch = pixels.dims()[0];
        let picture = pixels.reshape([batch, 3, side, side]) * 2.0 - 1.0;
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
        batch: &Batch,
        logits: Tensor<2>,
    ) -> Result<StepOutcome, TrainError> {
        let correct = batch.correct(&logits);
        let penalty = leaves.get::<4>(PROGRAM)?.square().sum() * self.penalty;
        let loss = similarity::cross_entropy(logits, batch.labels.clone()) + penalty;
        Ok(StepOutcome::backward(
            loss,
            leaves,
            correct,
            batch.examples(),
        ))
    }
}

impl Learn for ReprogramSettings {
    fn check(&self, model: &Model) -> Result<(), MethodError> {
        self.fits(model.config().image.image_size())
    }

    fn begin(&self, lesson: &Lesson<'_>) -> Result<Beginning, MethodError> {
        Prompted::begin(self, lesson)
    }

    fn open(
        &self,
        model: &Model,
        class_names: &[String],
        parameters: &Parameters,
        stored: Option<Tensor<2>>,
    ) -> Result<Box<dyn Prompt>, MethodError> {
        Prompted::open(self, model, class_names, parameters, stored)
    }

    /// Adam at 0.05 (Elsayed et al. 2018, appendix A); the number of epochs is not published.
    fn published(&self, _shots: Option<usize>) -> Recipe {
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

    fn fast(&self, _shots: Option<usize>) -> Recipe {
        let published = self.published(None);
        Recipe {
            batch_size: Some(32),
            fit: FitSettings {
                epochs: 30,
                ..published.fit
            },
            ..published
        }
    }

    fn sees(&self, _model: &Model) -> Sees {
        // All of the small picture is the task.
        Sees::Pixels {
            side: self.side,
            margin: false,
        }
    }

    fn takes_other_classes(&self) -> bool {
        matches!(self.target, Target::Words { .. })
    }
}
