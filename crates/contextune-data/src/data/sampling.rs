//! Which examples and classes of a data set a run asks for.

use serde::{Deserialize, Serialize};

use super::{Dataset, Result, Subset};

/// Which splits are learned from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LearnFrom {
    /// The training split.
    #[default]
    Train,
    /// The validation split as well, once it has served to choose settings by.
    TrainAndVal,
}

/// Which examples and classes a run asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Training examples of each class; absent: all.
    pub shots: Option<usize>,
    /// Examples of all classes together, four fifths to learn from and one to choose by; absent: as the data set has them.
    pub examples: Option<usize>,
    /// Which splits are learned from.
    pub learn_from: LearnFrom,
    /// Which classes.
    pub subset: Subset,
    /// Seed of the few shots.
    pub seed: u64,
}

impl Dataset {
    /// Returns the examples, and then the classes, that `sampling` asks for; what is unusual about them is said by warnings
    /// behind those of the whole data set.
    ///
    /// # Errors
    /// As [`Dataset::few_shot`], [`Dataset::fixed_sample`] and [`Dataset::learning_from_val`].
    pub fn sampled(&self, sampling: &Sampling) -> Result<Dataset> {
        let sampled = match (sampling.shots, sampling.examples) {
            (Some(shots), _) => self.few_shot(shots, sampling.seed)?,
            (None, Some(examples)) => self.fixed_sample(examples)?,
            (None, None) => self.clone(),
        };
        let sampled = match sampling.learn_from {
            LearnFrom::Train => sampled,
            LearnFrom::TrainAndVal => sampled.learning_from_val()?,
        };
        Ok(sampled.subset(sampling.subset))
    }
}
