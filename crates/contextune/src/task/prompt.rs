//! What is learned: parameters that turn inputs into the output of a task.

use std::fmt::Debug;

use burn::tensor::Tensor;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{ClassFeatures, Task};
use crate::backbone::BackboneError;
use crate::input::{Examples, InputError, Inputs};
use crate::parameters::{ParameterError, Parameters};
use crate::train::{StepOutcome, TrainError};

/// A prompt in front of, inside or behind a frozen model, without its parameters.
pub trait Prompt<T: Task>: Debug + Send + Sync {
    /// Returns what the prompt makes of a batch.
    ///
    /// # Errors
    /// Inputs of another kind than the prompt works on, parameters that are missing or have another shape.
    fn forward(&self, parameters: &Parameters, inputs: &Inputs) -> Result<T::Output, PromptError>;

    /// Returns a prompt that gives the same output, with all that does not depend on the inputs computed once; `None` where
    /// there is no such thing. Called when nothing is learned any more.
    ///
    /// # Errors
    /// As [`Self::forward`].
    fn ready(&self, _parameters: &Parameters) -> Result<Option<Box<dyn Prompt<T>>>, PromptError> {
        Ok(None)
    }

    /// Returns the features of the classes, for prompts whose outputs are their scaled cosines with *image features*: such a
    /// prompt can be exported as a classifier behind the image tower.
    ///
    /// # Errors
    /// As [`Self::forward`].
    fn class_features(
        &self,
        _parameters: &Parameters,
    ) -> Result<Option<ClassFeatures>, PromptError> {
        Ok(None)
    }

    /// Returns what a prompt file should keep, `[K, D]`, so that using the prompt for the same classes encodes no text.
    ///
    /// # Errors
    /// As [`Self::forward`].
    fn stored_features(&self, parameters: &Parameters) -> Result<Option<Tensor<2>>, PromptError> {
        let classifier = self.class_features(parameters)?;
        Ok(classifier.map(|classifier| classifier.features()))
    }

    /// Returns what a grey picture becomes with the prompt on it, `[1, 3, size, size]` in 0..1, for prompts that are pixels.
    ///
    /// # Errors
    /// As [`Self::forward`].
    fn picture(&self, _parameters: &Parameters) -> Result<Option<Tensor<4>>, PromptError> {
        Ok(None)
    }

    /// Renews what is found and not learned; called before every epoch with the training examples.
    ///
    /// # Errors
    /// An example that cannot be read any more.
    fn begin_epoch(
        &self,
        _parameters: &mut Parameters,
        _examples: &Examples<T::Target>,
    ) -> Result<(), PromptError> {
        Ok(())
    }

    /// Returns loss and gradients of one batch: of the task's loss, unless the method has a loss of its own.
    ///
    /// # Errors
    /// As [`Self::forward`].
    fn step(&self, leaves: &Parameters, batch: &Batch<T>) -> Result<StepOutcome, PromptError> {
        let output = self.forward(leaves, &batch.inputs)?;
        Ok(batch.outcome(output, leaves))
    }
}

/// The examples of one step, B of them.
#[derive(Clone, Debug)]
pub struct Batch<T: Task> {
    /// What the method is given of them.
    pub inputs: Inputs,
    /// What is right.
    pub targets: Vec<T::Target>,
    /// Seed of the run.
    pub seed: u64,
    /// Steps before this one.
    pub step: usize,
}

impl<T: Task> Batch<T> {
    /// Returns random numbers of this step alone.
    pub fn random(&self) -> ChaCha8Rng {
        /// Streams of steps; those below are epochs'.
        const STEPS: u64 = 1 << 63;
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(STEPS | self.step as u64);
        random
    }

    /// Returns the task's loss of an output with its backward pass.
    pub fn outcome(&self, output: T::Output, leaves: &Parameters) -> StepOutcome {
        let correct = T::correct(&output, &self.targets);
        let loss = T::loss(output, &self.targets);
        self.backward(loss, leaves, correct)
    }

    /// Returns the backward pass from a `loss` of this batch, of which so many were right.
    pub fn backward(&self, loss: Tensor<1>, leaves: &Parameters, correct: usize) -> StepOutcome {
        StepOutcome::backward(loss, leaves, correct, self.targets.len())
    }
}

/// Why a prompt makes nothing of its inputs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// The parameters do not fit.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    /// The prompt does not fit the model.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// The inputs cannot be read, or are of another kind.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The training cannot go on.
    #[error(transparent)]
    Train(#[from] TrainError),
}
