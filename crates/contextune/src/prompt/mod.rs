//! What is learned, one file per method; [`Method`] lists them.

use std::fmt::Debug;

use burn::tensor::{Int, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::features::LabelledFeatures;
use crate::objective::similarity;
use crate::train::{Parameters, StepOutcome, TrainError};

pub mod class_features;
mod classification;
pub mod clip_adapter;
pub mod cocoop;
pub mod coop;
pub mod finetune;
pub mod format;
pub mod guided;
pub mod image_encoder;
pub mod kgcoop;
pub mod linear_probe;
mod measure;
mod method;
pub mod movement;
pub mod pixel;
pub mod prograd;
pub mod reprogram;
pub mod side;
pub mod source;
pub mod taskres;
pub mod text_tuning;
pub mod tip_adapter;
pub mod vpt;
pub mod words;
pub mod zeroshot;

use class_features::ClassFeatures;
pub use classification::{Classification, TrainingViews};
pub use measure::{accuracy, guesses, logits};
pub use method::{Beginning, Grid, Learn, Lesson, Method, MethodError, Recipe};

/// A prompt that classifies: learned parameters turn image features into logits.
pub trait Prompt: Debug + Send + Sync {
    /// `image_features` `[B, D]`, not necessarily of unit length, or what else the method is given of a picture
    /// ([`Learn::sees`]) -> logits `[B, K]`.
    fn logits(
        &self,
        parameters: &Parameters,
        image_features: Tensor<2>,
    ) -> Result<Tensor<2>, TrainError>;

    /// The features of the classes, if they are the same for every picture and their scaled cosines with a picture's
    /// feature are its logits.
    fn class_features(
        &self,
        _parameters: &Parameters,
    ) -> Result<Option<ClassFeatures>, TrainError> {
        Ok(None)
    }

    /// What a prompt file should keep, `[K, D]`, so that using the prompt for the same classes encodes no text.
    fn stored_features(&self, parameters: &Parameters) -> Result<Option<Tensor<2>>, TrainError> {
        let classifier = self.class_features(parameters)?;
        Ok(classifier.map(|classifier| classifier.features()))
    }

    /// What a grey picture becomes with the prompt on it, `[1, 3, size, size]` in 0..1, for prompts that are pixels.
    fn picture(&self, _parameters: &Parameters) -> Result<Option<Tensor<4>>, TrainError> {
        Ok(None)
    }

    /// Called before every epoch with the training examples, to renew what is found and not learned.
    ///
    /// # Errors
    /// An example that cannot be read any more.
    fn begin_epoch(
        &self,
        _parameters: &mut Parameters,
        _examples: &LabelledFeatures,
    ) -> Result<(), TrainError> {
        Ok(())
    }

    /// Loss and gradients of one batch: of the cross-entropy, unless the method has a loss of its own.
    fn step(&self, leaves: &Parameters, batch: &Batch) -> Result<StepOutcome, TrainError> {
        let logits = self.logits(leaves, batch.image_features.clone())?; // [B, K]
        Ok(batch.cross_entropy(logits, leaves))
    }
}

/// The examples of one step.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `[B, D]`, not of unit length.
    pub image_features: Tensor<2>,
    /// `[B]`, in `0..K`.
    pub labels: Tensor<1, Int>,
    /// Seed of the run.
    pub seed: u64,
    /// Steps before this one.
    pub step: usize,
}

impl Batch {
    /// B
    pub fn examples(&self) -> usize {
        self.labels.dims()[0]
    }

    /// Random numbers of this step alone.
    pub fn random(&self) -> ChaCha8Rng {
        /// Streams of steps; those below are epochs'.
        const STEPS: u64 = 1 << 63;
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(STEPS | self.step as u64);
        random
    }

    /// Mean cross-entropy of `logits` `[B, K]`, with its backward pass.
    pub fn cross_entropy(&self, logits: Tensor<2>, leaves: &Parameters) -> StepOutcome {
        let correct = self.correct(&logits);
        let loss = similarity::cross_entropy(logits, self.labels.clone());
        StepOutcome::backward(loss, leaves, correct, self.examples())
    }

    /// How many of the batch `logits` `[B, K]` classify rightly.
    pub fn correct(&self, logits: &Tensor<2>) -> usize {
        let predicted = logits.clone().inner().argmax(1).flatten::<1>(0, 1);
        let correct: i64 = predicted
            .equal(self.labels.clone())
            .int()
            .sum()
            .into_scalar();
        correct as usize
    }
}
