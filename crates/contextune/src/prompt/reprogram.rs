//! Adversarial reprogramming: a program of pixels around a small picture makes a frozen classifier do another task (Elsayed,
//! Goodfellow, Sohl-Dickstein 2018, "Adversarial Reprogramming of Neural Networks", §3).
//!
//! X_adv = X̃ + tanh(W ⊙ M): X̃ is the task's picture in the middle of an empty canvas, M is zero where the picture lies; both
//! are in −1..1, and W is learned.

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::source::{Source, Target};
use super::{Batch, Beginning, Learn, Lesson, MethodError, Prompt, Recipe, TrainingViews};
use crate::features::{LabelledFeatures, Sees};
use crate::model::Model;
use crate::objective::similarity;
use crate::train::{FitSettings, Optimizer, Parameters, Schedule, StepOutcome, TrainError};

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

impl ReprogramSettings {
    fn fits(&self, size: usize) -> Result<(), MethodError> {
        match (1..size).contains(&self.side) {
            true => Ok(()),
            false => Err(MethodError::Combination(format!(
                "--side is {}; the model's input is {size} pixels wide, so 1 to {} leave room for a program",
                self.side,
                size - 1
            ))),
        }
    }
}

impl Learn for ReprogramSettings {
    fn check(&self, model: &Model) -> Result<(), MethodError> {
        self.fits(model.config().image.image_size())
    }

    fn begin(&self, lesson: &Lesson<'_>) -> Result<Beginning, MethodError> {
        let source = Source::of_model(lesson.model, lesson.class_names, &self.target, None)?;
        let prompt = Reprogram::new(self, source, lesson.model.device())?;
        let mut parameters = Parameters::default();
        let size = prompt.source.image_size;
        let zeros = vec![0.0; 3 * size * size];
        parameters.insert_data(PROGRAM, &[1, 3, size, size], zeros, lesson.model.device());
        let prompted = |parameters: &Parameters, pixels| prompt.prompted(parameters, pixels);
        prompt
            .source
            .begin(&self.target, lesson, &mut parameters, prompted)?;
        Ok(Beginning {
            prompt: Box::new(prompt),
            parameters,
        })
    }

    fn open(
        &self,
        model: &Model,
        class_names: &[String],
        parameters: &Parameters,
        stored: Option<Tensor<2>>,
    ) -> Result<Box<dyn Prompt>, MethodError> {
        let source = Source::of_model(model, class_names, &self.target, stored)?;
        let size = source.image_size;
        parameters.require(PROGRAM, &[1, 3, size, size])?;
        source.check(parameters, class_names.len())?;
        Ok(Box::new(Reprogram::new(self, source, model.device())?))
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
                optimizer: Optimizer::Adam {
                    betas: [0.9, 0.999],
                    epsilon: 1e-8,
                    weight_decay: 0.0,
                },
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

/// A frozen model behind a program.
#[derive(Debug)]
pub struct Reprogram {
    settings: ReprogramSettings,
    source: Source,
    /// M, `[1, 1, size, size]`: 0 where the task's picture lies, 1 around it.
    mask: Tensor<4>,
}

impl Reprogram {
    /// A program in front of `source`.
    ///
    /// # Errors
    /// A picture that leaves no room for a program.
    pub fn new(
        settings: &ReprogramSettings,
        source: Source,
        device: &Device,
    ) -> Result<Self, MethodError> {
        settings.fits(source.image_size)?;
        let (side, size) = (settings.side, source.image_size);
        let inside = Self::margin(side, size)..Self::margin(side, size) + side;
        let mask: Vec<f32> = (0..size * size)
            .map(|pixel| {
                let hidden = inside.contains(&(pixel / size)) && inside.contains(&(pixel % size));
                if hidden { 0.0 } else { 1.0 }
            })
            .collect();
        Ok(Self {
            settings: settings.clone(),
            source,
            mask: Tensor::from_data(TensorData::new(mask, [1, 1, size, size]), device),
        })
    }

    /// Pixels left of and above the picture.
    fn margin(side: usize, size: usize) -> usize {
        (size - side) / 2
    }

    /// What the tower sees of `pixels` `[B, 3 · side · side]` in 0..1: `[B, 3, size, size]`, normalised.
    fn prompted(
        &self,
        parameters: &Parameters,
        pixels: Tensor<2>,
    ) -> Result<Tensor<4>, TrainError> {
        let (side, size) = (self.settings.side, self.source.image_size);
        let batch = pixels.dims()[0];
        let picture = pixels.reshape([batch, 3, side, side]) * 2.0 - 1.0;
        let margin = Self::margin(side, size);
        let device = picture.device();
        let zeros =
            |height: usize, width: usize| Tensor::<4>::zeros([batch, 3, height, width], &device);
        let rest = size - side - margin;
        let middle = Tensor::cat(vec![zeros(side, margin), picture, zeros(side, rest)], 3);
        let canvas = Tensor::cat(vec![zeros(margin, size), middle, zeros(rest, size)], 2); // X̃
        let program = (parameters.get::<4>(PROGRAM)? * self.mask.clone()).tanh();
        let pixels = (canvas + program + 1.0) / 2.0;
        Ok(self.source.normalisation.forward(pixels))
    }
}

impl Prompt for Reprogram {
    fn logits(&self, parameters: &Parameters, pixels: Tensor<2>) -> Result<Tensor<2>, TrainError> {
        let prompted = self.prompted(parameters, pixels)?;
        self.source.classify(parameters, prompted)
    }

    fn stored_features(&self, _parameters: &Parameters) -> Result<Option<Tensor<2>>, TrainError> {
        Ok(self.source.words())
    }

    fn picture(&self, parameters: &Parameters) -> Result<Option<Tensor<4>>, TrainError> {
        let side = self.settings.side;
        self.source
            .picture(side, |pixels| self.prompted(parameters, pixels))
    }

    fn begin_epoch(
        &self,
        parameters: &mut Parameters,
        examples: &LabelledFeatures,
    ) -> Result<(), TrainError> {
        self.source.begin_epoch(
            &self.settings.target,
            examples,
            parameters,
            |parameters, pixels| self.prompted(parameters, pixels),
        )
    }

    /// −log P(h_g(y) | X_adv) + λ‖W‖².
    fn step(&self, leaves: &Parameters, batch: &Batch) -> Result<StepOutcome, TrainError> {
        let logits = self.logits(leaves, batch.image_features.clone())?;
        let correct = batch.correct(&logits);
        let penalty = leaves.get::<4>(PROGRAM)?.square().sum() * self.settings.penalty;
        let loss = similarity::cross_entropy(logits, batch.labels.clone()) + penalty;
        Ok(StepOutcome::backward(
            loss,
            leaves,
            correct,
            batch.examples(),
        ))
    }
}
