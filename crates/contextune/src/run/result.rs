//! What came of a run.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

use super::Settings;
use crate::data::{Split, distinct_names};
use crate::evaluate::Accuracy;

/// The outcome of a run on the split that it is measured on, the test split unless its settings say otherwise;
/// `result.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Method, as on the command line.
    pub method: String,
    /// The split.
    #[serde(default = "super::settings::test_split")]
    pub split: Split,
    /// Share of its pictures that were classified rightly.
    pub accuracy: f32,
    /// The same for each class, by its [distinct name](distinct_names); classes without pictures are left out.
    pub per_class: BTreeMap<String, f32>,
    /// How it was trained: `published`, `fast`, or one of them with what was changed; `imported` if other code did it.
    pub recipe: String,
    /// Training pictures for each class; absent: all.
    pub shots: Option<usize>,
    /// Pictures of all classes together, to learn from and to choose by; absent: all.
    #[serde(default)]
    pub examples: Option<usize>,
    /// Seed of everything random in the run.
    pub seed: u64,
    /// Which classes: all, base or new.
    pub subset: String,
    /// Learned numbers.
    pub parameters: usize,
    /// Size of the prompt file, all that is kept beside the model, in bytes.
    #[serde(default)]
    pub prompt_bytes: Option<u64>,
    /// Seconds of training in this program, without encoding and evaluation; 0 for an imported prompt.
    pub train_seconds: f64,
    /// Largest resident memory of the process so far, in bytes; absent where the system does not tell.
    pub peak_memory_bytes: Option<u64>,
}

impl RunResult {
    /// What a run of `settings` came to on a split of `class_names`, at this moment; `prompt_bytes` is the size of its file.
    pub fn new(
        settings: &Settings,
        accuracy: &Accuracy,
        class_names: &[String],
        parameters: usize,
        prompt_bytes: Option<u64>,
        train_seconds: f64,
    ) -> Self {
        Self {
            method: settings.method.name(),
            split: settings.measure_on,
            accuracy: accuracy.share(),
            per_class: per_class(accuracy, class_names),
            recipe: settings.recipe_name(),
            shots: settings.shots,
            examples: settings.examples,
            seed: settings.seed,
            subset: settings.subset.to_string(),
            parameters,
            prompt_bytes,
            train_seconds,
            peak_memory_bytes: peak_memory_bytes(),
        }
    }
}

/// Accuracy of each class that has examples, by its [distinct name](distinct_names).
pub fn per_class(accuracy: &Accuracy, class_names: &[String]) -> BTreeMap<String, f32> {
    distinct_names(class_names)
        .into_iter()
        .zip(&accuracy.per_class)
        .filter(|(_, (_, examples))| *examples > 0)
        .map(|(name, (correct, examples))| (name, *correct as f32 / *examples as f32))
        .collect()
}

/// Largest resident memory of this process so far, in bytes, memory-mapped files included; `None` where the system does
/// not tell.
pub fn peak_memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Memory that this machine could still give, in bytes; `None` where the system does not tell.
pub fn available_memory_bytes() -> Option<u64> {
    let memory = fs::read_to_string("/proc/meminfo").ok()?;
    let line = memory
        .lines()
        .find(|line| line.starts_with("MemAvailable:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
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
