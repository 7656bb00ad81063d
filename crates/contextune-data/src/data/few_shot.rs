//! Few-shot sampling exactly as the published protocol: the same seed draws the same examples.

use super::dataset::{Dataset, Example};
use super::error::{DataError, DataWarning, Result};
use super::few_shot_file;
use super::python_random::PythonRandom;
use super::split::Split;

/// Validation examples of a class, at most; the protocol's constant.
const MAX_VALIDATION_SHOTS: usize = 4;

impl Dataset {
    /// Draws `shots` training examples of each class and up to 4 validation examples; the test split stays whole, and
    /// with it ImageNet's validation split, which is the same.
    ///
    /// Where the data set's folder keeps the sample that the official code drew for these shots and this seed
    /// (`split_fewshot/shot_{shots}-seed_{seed}.pkl`), that one is taken, as the official code takes it, and
    /// [`DataWarning::FewShotFileUsed`] says so. The file is parsed, never run.
    ///
    /// This is the sampler of CoOp (Dassl's `generate_fewshot_dataset` after `random.seed(seed)`): classes in the order
    /// of their first example, Python's `random.sample` within each, train before val. A class with fewer examples
    /// keeps all of them in their order, and [`DataWarning::FewerThanShots`] says so. Sample first and cut classes with
    /// [`Dataset::subset`] afterwards, as published.
    ///
    /// # Errors
    /// [`DataError::NoShots`] if `shots` is 0; [`DataError::FewShotFile`] and [`DataError::Io`] for a kept sample that
    /// is damaged or was drawn from another split.
    pub fn few_shot(&self, shots: usize, seed: u64) -> Result<Dataset> {
        if shots == 0 {
            return Err(DataError::NoShots);
        }
        let mut warnings = self.warnings.clone();
        let kept = self.few_shot_files.as_deref();
        let (train, val) = match kept.and_then(|folder| few_shot_file::find(folder, shots, seed)) {
            Some(path) => {
                let examples = few_shot_file::read(&path, self, shots)?;
                warnings.push(DataWarning::FewShotFileUsed { path });
                examples
            }
            None => self.sample(shots, seed),
        };
        let drawn = Dataset {
            train,
            val,
            ..self.clone()
        };
        let short: Vec<_> = self
            .class_names
            .iter()
            .cloned()
            .zip(drawn.class_counts(Split::Train))
            .filter(|&(_, count)| count < shots)
            .collect();
        if !short.is_empty() {
            warnings.push(DataWarning::FewerThanShots {
                shots,
                classes: short,
            });
        }
        Ok(Dataset { warnings, ..drawn })
    }

    /// Draws examples of train and val by the seed.
    fn sample(&self, shots: usize, seed: u64) -> (Vec<Example>, Vec<Example>) {
        let mut random = PythonRandom::new(seed);
        let classes = self.class_names.len();
        let train = sample(&self.train, shots, classes, &mut random);
        let val = match self.published {
            Some(published) if published.validates_on_test() => self.val.clone(),
            _ => {
                let shots = shots.min(MAX_VALIDATION_SHOTS);
                sample(&self.val, shots, classes, &mut random)
            }
        };
        (train, val)
    }
}

fn sample(
    examples: &[Example],
    shots: usize,
    class_count: usize,
    random: &mut PythonRandom,
) -> Vec<Example> {
    let mut classes_in_order = Vec::new();
    let mut members = vec![Vec::new(); class_count];
    for example in examples {
        if members[example.label].is_empty() {
            classes_in_order.push(example.label);
        }
        members[example.label].push(example);
    }

    let mut sampled = Vec::new();
    for class in classes_in_order {
        let members = &members[class];
        if members.len() >= shots {
            let drawn = random.sample(members.len(), shots);
            sampled.extend(drawn.into_iter().map(|index| members[index].clone()));
        } else {
            sampled.extend(members.iter().copied().cloned());
        }
    }
    sampled
}
