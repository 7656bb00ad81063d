//! Samples that are the same for every seed of a run: N examples of all classes together. And validation examples as
//! further training examples.

use std::collections::HashSet;

use super::dataset::{Dataset, Example};
use super::error::{DataError, DataWarning, Result};
use super::published::table::PublishedDataset;
use super::python_random::PythonRandom;
use super::split::Split;

/// The sample of a data set is drawn by this seed, whatever that of the run.
const SEED: u64 = 1;

impl Dataset {
    /// Draws `count` examples of all classes together: four fifths are train, the others val; the test split stays whole. As
    /// in VTAB-1k (Zhai et al. 2019, §2: 800 and 200 of 1,000), they are drawn from train and val together, whatever their
    /// classes, and always the same. With fewer than `count` examples all are taken, and [`DataWarning::FewerExamples`] says
    /// so.
    ///
    /// # Errors
    /// [`DataError::TooFewExamples`] if there are fewer than two, one for each split.
    pub fn fixed_sample(&self, count: usize) -> Result<Dataset> {
        let all: Vec<&Example> = self.train.iter().chain(self.own_val()).collect();
        let drawn = count.min(all.len());
        if drawn < 2 {
            return Err(DataError::TooFewExamples {
                path: self.root.clone(),
                count: drawn,
            });
        }
        let indices = PythonRandom::new(SEED).sample(all.len(), drawn);
        let to_learn = (drawn * 4).div_ceil(5).min(drawn - 1);
        let of = |indices: &[usize]| indices.iter().map(|&index| all[index].clone()).collect();
        let mut sample = Dataset {
            train: of(&indices[..to_learn]),
            val: of(&indices[to_learn..]),
            few_shot_files: None,
            ..self.clone()
        };
        if drawn < count {
            sample.warnings.push(DataWarning::FewerExamples {
                asked: count,
                there: drawn,
            });
        }
        for split in [Split::Train, Split::Val] {
            let counts = sample.class_counts(split);
            let classes = sample.classes_where(|label| counts[label] == 0);
            if !classes.is_empty() {
                sample
                    .warnings
                    .push(DataWarning::ClassesMissing { split, classes });
            }
        }
        Ok(sample)
    }

    /// Moves the validation examples behind the training examples.
    ///
    /// # Errors
    /// As [`Self::require_own_val`]: what is measured on must not be learned from.
    pub fn learning_from_val(mut self) -> Result<Dataset> {
        self.require_own_val()?;
        let val = std::mem::take(&mut self.val);
        self.train.extend(val);
        Ok(self)
    }

    /// Checks that settings may be chosen by the validation examples: there are some, and none is a test example.
    ///
    /// # Errors
    /// [`DataError::NoVal`], [`DataError::ValIsTest`].
    pub fn require_own_val(&self) -> Result<()> {
        let path = self.root.clone();
        match self.own_val().len() {
            _ if self.val.is_empty() => Err(DataError::NoVal { path }),
            own if own < self.val.len() => Err(DataError::ValIsTest { path }),
            _ => Ok(()),
        }
    }

    /// Returns the validation examples that are no test examples under another name or in another row.
    fn own_val(&self) -> Vec<&Example> {
        if self
            .published
            .is_some_and(PublishedDataset::validates_on_test)
        {
            return Vec::new();
        }
        let name = |example: &Example| self.input_name(&example.input);
        let test: HashSet<String> = self.test.iter().map(name).collect();
        let is_own = |example: &&Example| !test.contains(&name(example));
        self.val.iter().filter(is_own).collect()
    }
}
