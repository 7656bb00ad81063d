//! Samples that are the same for every seed of a run: so many examples of all classes together, and validation examples to
//! learn from as well.

use std::collections::HashSet;

use super::python_random::PythonRandom;
use super::{DataError, DataWarning, Dataset, Example, Input, Result, Split};

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

    /// The same examples with val moved behind train.
    ///
    /// # Errors
    /// [`DataError::ValIsTest`] if that would mean learning from what is measured on.
    pub fn learning_from_val(mut self) -> Result<Dataset> {
        if !self.val.is_empty() && self.own_val().is_empty() {
            return Err(DataError::ValIsTest { path: self.root });
        }
        let val = std::mem::take(&mut self.val);
        self.train.extend(val);
        Ok(self)
    }

    /// Validation examples that are no test examples under another name.
    fn own_val(&self) -> Vec<&Example> {
        let test: HashSet<&Input> = self.test.iter().map(|example| &example.input).collect();
        let is_own = |example: &&Example| !test.contains(&example.input);
        self.val.iter().filter(is_own).collect()
    }
}
