//! The training problem that all prompts share: inputs and targets in, a step out.

use burn::tensor::Device;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Batch, Prompt, PromptError, Task};
use crate::input::{Examples, Inputs};
use crate::parameters::Parameters;
use crate::train::{Problem, Step, StepOutcome};

/// Which views of the training pictures a run learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TrainingViews {
    /// The picture itself, as for the test.
    Whole,
    /// A random view of its own for every epoch, as published.
    Fresh,
    /// Of so many random views, one drawn for every epoch.
    Drawn {
        /// Views of each picture.
        count: usize,
    },
    /// So many random views, every one in every epoch.
    All {
        /// Views of each picture.
        count: usize,
    },
}

/// A prompt that learns from examples.
#[derive(Debug)]
pub struct Training<'a, T: Task> {
    prompt: &'a dyn Prompt<T>,
    examples: &'a Examples<T::Target>,
    views: TrainingViews,
    batch_size: usize,
    seed: u64,
    device: Device,
}

impl<'a, T: Task> Training<'a, T> {
    /// Learns from `examples`, whose views are those that `views` asks for, or one view of each. A batch size beyond the number
    /// of examples means full batches.
    pub fn new(
        prompt: &'a dyn Prompt<T>,
        examples: &'a Examples<T::Target>,
        views: TrainingViews,
        batch_size: usize,
        seed: u64,
        device: &Device,
    ) -> Self {
        let mut training = Self {
            prompt,
            examples,
            views,
            batch_size,
            seed,
            device: device.clone(),
        };
        training.batch_size = batch_size.clamp(1, training.per_epoch().max(1));
        training
    }

    /// Examples in an epoch, its views counted one by one where every one is seen.
    fn per_epoch(&self) -> usize {
        match self.views {
            TrainingViews::All { .. } => self.examples.count() * self.examples.inputs.views(),
            _ => self.examples.count(),
        }
    }

    /// Every (example, view) of an epoch, as example · V + view.
    fn order(&self, epoch: usize, random: &mut ChaCha8Rng) -> Vec<usize> {
        let views = self.examples.inputs.views();
        let examples = 0..self.examples.count();
        match self.views {
            TrainingViews::Whole => examples.map(|example| example * views).collect(),
            TrainingViews::Fresh => examples
                .map(|example| example * views + epoch % views)
                .collect(),
            TrainingViews::Drawn { .. } => examples
                .map(|example| example * views + random.random_range(0..views))
                .collect(),
            TrainingViews::All { .. } => (0..examples.len() * views).collect(),
        }
    }
}

impl<T: Task> Problem for Training<'_, T> {
    type Batch = (Inputs, Vec<T::Target>);
    type Error = PromptError;

    fn steps(&self) -> usize {
        self.per_epoch() / self.batch_size
    }

    /// Each epoch draws its own order; a remainder smaller than a batch is left out, as the official loader does.
    fn batches(&self, epoch: usize) -> Vec<Vec<usize>> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(epoch as u64);
        let mut order = self.order(epoch, &mut random);
        if self.batch_size < order.len() {
            order.shuffle(&mut random);
        }
        let batches = order.chunks_exact(self.batch_size);
        batches.map(<[usize]>::to_vec).collect()
    }

    fn begin_epoch(&self, parameters: &mut Parameters) -> Result<(), PromptError> {
        self.prompt.begin_epoch(parameters, self.examples)
    }

    fn load(&self, batch: &[usize]) -> Result<Self::Batch, PromptError> {
        let views = self.examples.inputs.views();
        let which: Vec<(usize, usize)> = batch
            .iter()
            .map(|&example| (example / views, example % views))
            .collect();
        let targets = which
            .iter()
            .map(|&(example, _)| self.examples.targets[example].clone());
        let targets = targets.collect();
        Ok((self.examples.inputs.select(&which, &self.device)?, targets))
    }

    fn step(
        &self,
        leaves: &Parameters,
        step: Step<Self::Batch>,
    ) -> Result<StepOutcome, PromptError> {
        let (inputs, targets) = step.batch;
        let batch = Batch {
            inputs,
            targets,
            seed: self.seed,
            step: step.progress.step,
        };
        self.prompt.step(leaves, &batch)
    }
}
