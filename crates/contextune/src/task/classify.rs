//! Classification: a picture belongs to one of K classes.

use std::fmt;
use std::path::Path;

use burn::tensor::{Device, Int, Tensor};
use rayon::prelude::*;
use serde::Serialize;

use super::{Batch, Measures, Task, TaskDataset};
use crate::data::{self, DataError, Dataset, Input, Sampling, Split, distinct_names};
use crate::evaluate::{Accuracy, most_probable};
use crate::indices::indices;
use crate::input::Place;
use crate::objective::similarity;
use crate::parameters::{ParameterError, elements_of};

/// The task: the output are logits `[B, K]`, the target is a class from 0.
#[derive(Clone, Copy, Debug)]
pub struct Classify;

/// The most probable classes of a picture with their probabilities, the most probable first; at least one.
pub type Guess = Vec<(usize, f32)>;

/// What is said of a picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// The most probable class.
    pub class: String,
    /// Its probability, 0 to 1.
    pub probability: f32,
    /// The most probable classes with their probabilities, the most probable first.
    pub top: Vec<(String, f32)>,
}

impl Task for Classify {
    const NAME: &'static str = "classify";
    const HAS_CLASSES: bool = true;

    type Dataset = Dataset;
    type Target = usize;
    type Output = Tensor<2>;
    type Guess = Guess;
    type Answer = Answer;

    fn open(path: &Path, seed: u64) -> Result<Dataset, DataError> {
        data::open(path, seed)
    }

    fn sample(
        dataset: &Dataset,
        sampling: &Sampling,
        remark: &mut dyn FnMut(String),
    ) -> Result<Dataset, DataError> {
        let sampled = dataset.sampled(sampling)?;
        // Of the whole data set it was said when it was opened.
        for warning in sampled.warnings.iter().skip(dataset.warnings.len()) {
            remark(warning.to_string());
        }
        Ok(sampled)
    }

    fn examples(dataset: &Dataset, split: Split) -> (Vec<&Input>, Vec<usize>) {
        let examples = dataset.split(split).iter();
        examples
            .map(|example| (&example.input, example.label))
            .unzip()
    }

    fn loss(logits: Tensor<2>, targets: &[usize]) -> Tensor<1> {
        let labels = labels(targets, &logits.device());
        similarity::cross_entropy(logits, labels)
    }

    fn correct(logits: &Tensor<2>, targets: &[usize]) -> usize {
        let predicted = logits.clone().inner().argmax(1).flatten::<1>(0, 1);
        let labels = labels(targets, &logits.device());
        let correct: i64 = predicted.equal(labels).int().sum().into_scalar();
        correct as usize
    }

    fn guesses(logits: Tensor<2>, count: usize) -> Result<Vec<Guess>, ParameterError> {
        let classes = logits.dims()[1];
        let logits = elements_of("logits", logits)?;
        let rows = logits.par_chunks_exact(classes);
        Ok(rows.map(|row| most_probable(row, count)).collect())
    }

    fn measures(guesses: &[Guess], targets: &[usize], class_names: &[String]) -> Measures {
        let accuracy = accuracy(guesses, targets, class_names.len());
        Measures {
            accuracy: (accuracy.examples > 0).then(|| accuracy.share()),
            per_class: per_class(&accuracy, class_names),
        }
    }

    fn answer(guess: &Guess, class_names: &[String]) -> Answer {
        let named = |&(class, probability): &(usize, f32)| {
            let class: &String = &class_names[class];
            (class.clone(), probability)
        };
        let (class, probability) = named(&guess[0]);
        Answer {
            class,
            probability,
            top: guess.iter().map(named).collect(),
        }
    }
}

impl TaskDataset for Dataset {
    fn place(&self) -> Place<'_> {
        Place {
            root: &self.root,
            features: self.features.as_ref(),
        }
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }

    fn has(&self, split: Split) -> bool {
        !self.split(split).is_empty()
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.iter().map(ToString::to_string).collect()
    }
}

/// The most probable classes in one line.
impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (class, probability)) in self.top.iter().enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            write!(formatter, "{comma}{class} {:.1} %", 100.0 * probability)?;
        }
        Ok(())
    }
}

impl Batch<Classify> {
    /// Returns the classes as a tensor, `[B]`.
    pub fn labels(&self, device: &Device) -> Tensor<1, Int> {
        labels(&self.targets, device)
    }
}

fn labels(targets: &[usize], device: &Device) -> Tensor<1, Int> {
    indices(targets.iter().copied(), device)
}

/// Counts how many of the first guesses are right, of `classes` classes.
pub fn accuracy(guesses: &[Guess], targets: &[usize], classes: usize) -> Accuracy {
    let mut accuracy = Accuracy::none(classes);
    for (guess, &target) in guesses.iter().zip(targets) {
        accuracy.count(guess[0].0 == target, target);
    }
    accuracy
}

/// Returns the accuracy of each class that has examples, by its [distinct name](distinct_names).
pub fn per_class(
    accuracy: &Accuracy,
    class_names: &[String],
) -> std::collections::BTreeMap<String, f32> {
    distinct_names(class_names)
        .into_iter()
        .zip(&accuracy.per_class)
        .filter(|(_, (_, examples))| *examples > 0)
        .map(|(name, (correct, examples))| (name, *correct as f32 / *examples as f32))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn classes_of_one_name_are_measured_apart() {
        let names = ["sunglasses", "crane", "tench", "crane"].map(str::to_owned);
        let accuracy = Accuracy {
            correct: 4,
            examples: 9,
            per_class: vec![(0, 0), (3, 4), (1, 2), (0, 3)],
        };
        let expected = [("crane (1)", 0.75), ("crane (3)", 0.0), ("tench", 0.5)];
        let expected = expected.map(|(name, share)| (name.to_owned(), share));
        assert_eq!(per_class(&accuracy, &names), BTreeMap::from(expected));
    }
}
