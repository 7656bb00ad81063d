//! `result.json`: how good a run is, and what it cost.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Settings;
use super::learning::JobOutcome;
use super::memory::peak_memory_bytes;
use crate::data::Split;

/// The result of a run on the split that it is measured on; `result.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// The method, as in the registry.
    pub method: String,
    /// The split.
    #[serde(default = "super::settings::test_split")]
    pub split: Split,
    /// Share of its examples that were answered rightly; absent (`null`) where it was not measured.
    pub accuracy: Option<f32>,
    /// Why it was not measured, if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmeasured: Option<String>,
    /// The accuracy of each class, by its [distinct name](crate::data::distinct_names); classes without examples are left out.
    pub per_class: BTreeMap<String, f32>,
    /// How it was trained: `published`, `fast`, or one of them with what was changed; `imported` if other code did it.
    pub recipe: String,
    /// Training examples of each class; absent: all.
    pub shots: Option<usize>,
    /// Examples of all classes together, to learn from and to choose by; absent: all.
    #[serde(default)]
    pub examples: Option<usize>,
    /// Seed of everything random in the run.
    pub seed: u64,
    /// Which classes: all, base or new.
    pub subset: String,
    /// Trained elements.
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
    /// The result of a run of `settings` at this moment; `prompt_bytes` is the size of its file.
    pub fn new(settings: &Settings, outcome: &JobOutcome, prompt_bytes: Option<u64>) -> Self {
        Self {
            method: settings.method.name().to_owned(),
            split: outcome.split,
            accuracy: outcome.measures.accuracy,
            unmeasured: outcome.unmeasured.clone(),
            per_class: outcome.measures.per_class.clone(),
            recipe: settings.recipe_name(),
            shots: settings.shots,
            examples: settings.examples,
            seed: settings.seed,
            subset: settings.subset.to_string(),
            parameters: outcome.parameters,
            prompt_bytes,
            train_seconds: outcome.seconds,
            peak_memory_bytes: peak_memory_bytes(),
        }
    }
}
