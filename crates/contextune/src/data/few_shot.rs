//! Few-shot sampling exactly as the published protocol: the same seed draws the same examples.

use super::python_random::PythonRandom;
use super::{DataError, DataWarning, Dataset, Example, Result};

/// Validation examples of a class, at most; the protocol's constant.
const MAX_VALIDATION_SHOTS: usize = 4;

impl Dataset {
    /// Draws `shots` training examples of each class and up to 4 validation examples; the test split stays whole.
    ///
    /// This is the sampler of CoOp (Dassl's `generate_fewshot_dataset` after `random.seed(seed)`): classes in the order
    /// of their first example, Python's `random.sample` within each, train before val. A class with fewer examples
    /// keeps all of them in their order, and [`DataWarning::FewerThanShots`] says so. Sample first and cut classes with
    /// [`Dataset::subset`] afterwards, as published.
    ///
    /// # Errors
    /// [`DataError::NoShots`] if `shots` is 0.
    pub fn few_shot(&self, shots: usize, seed: u64) -> Result<Dataset> {
        if shots == 0 {
            return Err(DataError::NoShots);
        }
        let mut random = PythonRandom::new(seed);
        let train = sample(&self.train, shots, self.class_names.len(), &mut random);
        let val = sample(
            &self.val,
            shots.min(MAX_VALIDATION_SHOTS),
            self.class_names.len(),
            &mut random,
        );

        let mut warnings = self.warnings.clone();
        let short: Vec<_> = self
            .class_names
            .iter()
            .cloned()
            .zip(self.class_counts(super::Split::Train))
            .filter(|&(_, count)| count < shots)
            .collect();
        if !short.is_empty() {
            warnings.push(DataWarning::FewerThanShots {
                shots,
                classes: short,
            });
        }
        Ok(Dataset {
            train,
            val,
            warnings,
            ..self.clone()
        })
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
