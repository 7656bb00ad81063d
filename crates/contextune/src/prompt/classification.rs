//! The training task that all prompts for classification share: image features and labels in, cross-entropy out.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::Prompt;
use crate::objective::similarity;
use crate::train::{Parameters, StepLoss, Task, TrainError};

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

    /// The examples of one step. Each epoch draws its own order; a remainder smaller than a batch is left out, as the
    /// official loader does.
    fn batch(&self, epoch: usize, step: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.labels.len()).collect();
        if self.batch_size < self.labels.len() {
            let mut random = ChaCha8Rng::seed_from_u64(self.seed);
            random.set_stream(epoch as u64);
            order.shuffle(&mut random);
        }
        order[step * self.batch_size..][..self.batch_size].to_vec()
    }
}

impl<P: Prompt> Task for Classification<P> {
    fn steps(&self) -> usize {
        self.labels.len() / self.batch_size
    }

    fn loss(
        &self,
        parameters: &Parameters,
        epoch: usize,
        step: usize,
    ) -> Result<StepLoss, TrainError> {
        let batch = self.batch(epoch, step);
        let device = self.image_features.device();
        let rows = batch.iter().map(|&row| row as i64).collect();
        let images = self
            .image_features
            .clone()
            .select(0, int_tensor(rows, &device)); // [B, D]
        let labels: Vec<i64> = batch.iter().map(|&row| self.labels[row] as i64).collect();
        let logits = self.prompt.logits(parameters, images)?; // [B, K]
        let predicted = logits.clone().inner().argmax(1).flatten::<1>(0, 1);
        let labels = int_tensor(labels, &device);
        let correct: i64 = predicted.equal(labels.clone()).int().sum().into_scalar();
        Ok(StepLoss {
            loss: similarity::cross_entropy(logits, labels),
            correct: correct as usize,
            examples: batch.len(),
        })
    }
}

fn int_tensor(values: Vec<i64>, device: &Device) -> Tensor<1, Int> {
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), device)
}
