//! What a run's prompt makes of the pictures it is measured on.

use super::LearnError;
use crate::data::{Dataset, Split};
use crate::evaluate::Accuracy;
use crate::features::{EncodingWatcher, ExampleEncoder, Views};
use crate::model::Model;
use crate::prompt::{self, Prompt};
use crate::train::Parameters;

/// Guesses that are kept of a picture.
const GUESSES: usize = 5;

/// The pictures that could be read, N of them, and what they were taken for.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Their places in the split.
    pub examples: Vec<usize>,
    /// Their classes, in `0..K`.
    pub labels: Vec<usize>,
    /// The five most probable classes of each with their probabilities, most probable first; fewer if there are fewer classes.
    pub guesses: Vec<Vec<(usize, f32)>>,
}

impl Measured {
    /// Classifies `split` of `dataset`, sampled and cut to its classes.
    ///
    /// # Errors
    /// There is nothing to measure on, and what the prompt reports.
    pub fn new(
        (prompt, parameters): (&dyn Prompt, &Parameters),
        model: &Model,
        encoder: &ExampleEncoder<'_>,
        (dataset, split): (&Dataset, Split),
        watcher: &impl EncodingWatcher,
    ) -> Result<Self, LearnError> {
        let (examples, features) = encoder
            .readable(dataset, dataset.split(split), Views::Whole, watcher)
            .map_err(|source| LearnError::NothingToMeasure { split, source })?;
        let counts = [dataset.class_names.len(), GUESSES];
        Ok(Self {
            guesses: prompt::guesses(prompt, parameters, &features, counts, model.device())?,
            labels: features.labels().to_vec(),
            examples,
        })
    }

    /// How many are right, of `classes` classes.
    pub fn accuracy(&self, classes: usize) -> Accuracy {
        let mut accuracy = Accuracy::none(classes);
        for (guesses, &label) in self.guesses.iter().zip(&self.labels) {
            accuracy.count(guesses[0].0 == label, label);
        }
        accuracy
    }
}
