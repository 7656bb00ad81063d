//! What a prompt makes of the examples it is measured on.

use super::{Classify, Measures, Predictor, PromptError, Task, TaskDataset, classify};
use crate::data::Split;
use crate::evaluate::Accuracy;
use crate::input::{EncodingWatcher, InputEncoder, InputError, Views};

/// Guesses that are kept of an input.
const GUESSES: usize = 5;

/// The examples of a split that could be read, N of them, and what was guessed for each.
#[derive(Clone, Debug)]
pub struct Measured<T: Task> {
    /// Their places in the split.
    pub examples: Vec<usize>,
    /// What is right.
    pub targets: Vec<T::Target>,
    /// What was guessed: of classes the five most probable, fewer if there are fewer classes.
    pub guesses: Vec<T::Guess>,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeasureError {
    /// There is nothing to measure on.
    #[error("there is nothing to measure on in the {split} split: {source}")]
    Nothing {
        /// The split that was asked for.
        split: Split,
        /// Why.
        source: InputError,
    },
    /// The prompt makes nothing of the examples.
    #[error(transparent)]
    Prompt(#[from] PromptError),
}

impl<T: Task> Measured<T> {
    /// Asks `predictor` for every example of a split of `dataset`, sampled and cut to its classes.
    ///
    /// # Errors
    /// There is nothing to measure on, and what the prompt reports.
    pub fn new(
        predictor: &Predictor<T>,
        dataset: &T::Dataset,
        split: Split,
        encoder: &InputEncoder<'_>,
        watcher: &dyn EncodingWatcher,
    ) -> Result<Self, MeasureError> {
        let (inputs, targets) = T::examples(dataset, split);
        let (examples, table) = encoder
            .inputs(dataset.place(), &inputs, Views::Whole, watcher)
            .map_err(|source| MeasureError::Nothing { split, source })?;
        Ok(Self {
            guesses: predictor.guesses(&table, GUESSES)?,
            targets: examples
                .iter()
                .map(|&example| targets[example].clone())
                .collect(),
            examples,
        })
    }

    /// Returns how good the guesses are.
    pub fn measures(&self, class_names: &[String]) -> Measures {
        T::measures(&self.guesses, &self.targets, class_names)
    }
}

impl Measured<Classify> {
    /// Counts how many are right, of `classes` classes.
    pub fn accuracy(&self, classes: usize) -> Accuracy {
        classify::accuracy(&self.guesses, &self.targets, classes)
    }
}
