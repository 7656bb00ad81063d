//! From the settings of a run to its finished folder.

use std::path::PathBuf;

use super::error::LearnError;
use super::folder::RunFolder;
use super::learning::{AnyMeasured, Job};
use super::result::RunResult;
use super::settings::Settings;
use super::watcher::RunWatcher;
use crate::input::{EncodingWatcher, InputEncoder, InputKind};
use crate::model::{Model, ModelError};
use crate::task::TaskDataset;

/// The outcome of a run.
#[derive(Debug)]
pub struct Outcome {
    /// In numbers.
    pub result: RunResult,
    /// Example by example; absent where nothing could be measured.
    pub measured: Option<AnyMeasured>,
}

/// Returns the way from examples to what the method of `settings` is given of them; features are kept below `cache`.
///
/// # Errors
/// The model cannot be read.
pub fn encoder<'a>(
    settings: &Settings,
    model: &'a Model,
    cache: Option<PathBuf>,
) -> Result<InputEncoder<'a>, ModelError> {
    let kind = settings.method.needs(model.config()).input;
    InputEncoder::new(model, settings.encoding(cache), kind)
}

/// Returns the way from the same pictures to their features, whatever the method is given of them.
///
/// # Errors
/// The model cannot be read.
pub fn feature_encoder<'a>(
    settings: &Settings,
    model: &'a Model,
    cache: Option<PathBuf>,
) -> Result<InputEncoder<'a>, ModelError> {
    InputEncoder::new(model, settings.encoding(cache), InputKind::Features)
}

/// Learns what `settings` say on `dataset` (not yet sampled), from where the folder is or from the beginning, and finishes
/// the folder. Where there is nothing to measure on, the result says so instead of an accuracy.
///
/// # Errors
/// All of [`LearnError`].
pub fn learn(
    settings: &Settings,
    dataset: &dyn TaskDataset,
    model: &Model,
    encoder: &InputEncoder<'_>,
    folder: &RunFolder,
    watcher: &dyn RunWatcher,
) -> Result<Outcome, LearnError> {
    settings.check(model)?;
    let job = Job {
        model,
        encoder,
        folder,
        watcher,
        recipe: &settings.training,
        initial: &settings.initial,
        sampling: settings.sampling(),
        measure_on: settings.measure_on,
    };
    let outcome = settings.method.learn(&job, dataset)?;
    let result = RunResult::new(settings, &outcome, folder.prompt_bytes());
    folder.finish(&result)?;
    Ok(Outcome {
        result,
        measured: outcome.measured,
    })
}

/// Encodes what `settings` learn from; with a cache, runs that need it later find it there.
///
/// # Errors
/// There is nothing to learn from.
pub fn encode_training(
    settings: &Settings,
    dataset: &dyn TaskDataset,
    encoder: &InputEncoder<'_>,
    watcher: &dyn EncodingWatcher,
) -> Result<(), LearnError> {
    let sampling = settings.sampling();
    settings
        .method
        .encode_training(&settings.training, &sampling, encoder, dataset, watcher)
}
