//! The training task that all prompts for classification share: image features and labels in, cross-entropy out.

use burn::tensor::Tensor;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::Prompt;
use crate::indices::indices;
use crate::objective::similarity;
use crate::train::{Parameters, Step, StepLoss, Task, TrainError};

/// Cross-entropy of a prompt's logits on fixed image features.
#[derive(Debug)]
pub struct Classification<P> {
    prompt: P,
    image_features: Tensor<2>,
    labels: Vec<usize>,
    batch_size: usize,
    seed: u64,
}

impl<P: Prompt> Classification<P> {
    /// `image_features` `[N, D]` with one label in `0..K` each. A batch size beyond N means full batches.
    pub fn new(
        prompt: P,
        image_features: Tensor<2>,
        labels: Vec<usize>,
        batch_size: usize,
        seed: u64,
    ) -> Self {
        let batch_size = batch_size.min(labels.len());
        Self {
            prompt,
            image_features,
            labels,
            batch_size,
            seed,
        }
    }

    /// The prompt that is learned.
    pub fn prompt(&self) -> &P {
        &self.prompt
    }
}

impl<P: Prompt> Task for Classification<P> {
    fn steps(&self) -> usize {
        self.labels.len() / self.batch_size
    }

    /// Each epoch draws its own order; a remainder smaller than a batch is left out, as the official loader does.
    fn batches(&self, epoch: usize) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.labels.len()).collect();
        if self.batch_size < self.labels.len() {
            let mut random = ChaCha8Rng::seed_from_u64(self.seed);
            random.set_stream(epoch as u64);
            order.shuffle(&mut random);
        }
        let batches = order.chunks_exact(self.batch_size);
        batches.map(<[usize]>::to_vec).collect()
    }

    fn loss(&self, parameters: &Parameters, step: Step<'_>) -> Result<StepLoss, TrainError> {
        let batch = step.batch;
        let device = self.image_features.device();
        let images = self
            .image_features
            .clone()
            .select(0, indices(batch.iter().copied(), &device)); // [B, D]
        let logits = self.prompt.logits(parameters, images)?; // [B, K]
        let predicted = logits.clone().inner().argmax(1).flatten::<1>(0, 1);
        let labels = indices(batch.iter().map(|&row| self.labels[row]), &device);
        let correct: i64 = predicted.equal(labels.clone()).int().sum().into_scalar();
        Ok(StepLoss {
            loss: similarity::cross_entropy(logits, labels),
            correct: correct as usize,
            examples: batch.len(),
        })
    }
}
