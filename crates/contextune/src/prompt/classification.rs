//! The training task that all prompts for classification share: image features and labels in, a step out.

use burn::tensor::Device;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Batch, Prompt};
use crate::features::LabelledFeatures;
use crate::indices::indices;
use crate::train::{Parameters, Step, StepOutcome, Task, TrainError};

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

/// A prompt that learns from image features.
#[derive(Debug)]
pub struct Classification<'a> {
    prompt: &'a dyn Prompt,
    features: &'a LabelledFeatures,
    views: TrainingViews,
    batch_size: usize,
    seed: u64,
    device: Device,
}

impl<'a> Classification<'a> {
    /// Learns from `features`, whose views are those that `views` asks for, or one view of each picture. A batch size
    /// beyond the number of examples means full batches.
    pub fn new(
        prompt: &'a dyn Prompt,
        features: &'a LabelledFeatures,
        views: TrainingViews,
        batch_size: usize,
        seed: u64,
        device: &Device,
    ) -> Self {
        let examples = match views {
            TrainingViews::All { .. } => features.pictures() * features.views(),
            _ => features.pictures(),
        };
        Self {
            prompt,
            features,
            views,
            batch_size: batch_size.clamp(1, examples),
            seed,
            device: device.clone(),
        }
    }

    /// Every example of an epoch: picture · V + view.
    fn examples(&self, epoch: usize, random: &mut ChaCha8Rng) -> Vec<usize> {
        let views = self.features.views();
        let pictures = 0..self.features.pictures();
        match self.views {
            TrainingViews::Whole => pictures.map(|picture| picture * views).collect(),
            TrainingViews::Fresh => pictures
                .map(|picture| picture * views + epoch % views)
                .collect(),
            TrainingViews::Drawn { .. } => pictures
                .map(|picture| picture * views + random.random_range(0..views))
                .collect(),
            TrainingViews::All { .. } => (0..pictures.len() * views).collect(),
        }
    }
}

impl Task for Classification<'_> {
    fn steps(&self) -> usize {
        let examples = match self.views {
            TrainingViews::All { .. } => self.features.pictures() * self.features.views(),
            _ => self.features.pictures(),
        };
        examples / self.batch_size
    }

    /// Each epoch draws its own order; a remainder smaller than a batch is left out, as the official loader does.
    fn batches(&self, epoch: usize) -> Vec<Vec<usize>> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(epoch as u64);
        let mut order = self.examples(epoch, &mut random);
        if self.batch_size < order.len() {
            order.shuffle(&mut random);
        }
        let batches = order.chunks_exact(self.batch_size);
        batches.map(<[usize]>::to_vec).collect()
    }

    fn begin_epoch(&self, parameters: &mut Parameters) -> Result<(), TrainError> {
        self.prompt.begin_epoch(parameters, self.features)
    }

    fn step(&self, leaves: &Parameters, step: Step<'_>) -> Result<StepOutcome, TrainError> {
        let views = self.features.views();
        let which: Vec<(usize, usize)> = step
            .batch
            .iter()
            .map(|&example| (example / views, example % views))
            .collect();
        let labels = which
            .iter()
            .map(|&(picture, _)| self.features.labels()[picture]);
        let batch = Batch {
            labels: indices(labels, &self.device),
            image_features: self.features.select(&which, &self.device)?, // [B, D]
            seed: self.seed,
            step: step.progress.step,
        };
        self.prompt.step(leaves, &batch)
    }
}
