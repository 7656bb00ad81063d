//! From settings to a finished run folder.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use super::result::available_memory_bytes;
use super::{LearnFrom, Measured, RunError, RunFolder, RunResult, Settings};
use crate::data::{DataError, Dataset, Split};
use crate::features::{
    EncodingWatcher, ExampleEncoder, FeatureError, LabelledFeatures, Sees, Views,
};
use crate::model::{Model, ModelError};
use crate::prompt::format::{PromptFile, PromptFileError};
use crate::prompt::{Classification, Lesson, MethodError, TrainingViews};
use crate::train::{EpochMetrics, Observer, Progress, Task as _, TrainError, TrainingState, fit};

/// A short epoch need not be saved on its own: repeating it costs less.
const SAVE_EVERY_SECONDS: u64 = 2;

/// Watches a run.
pub trait RunWatcher: EncodingWatcher {
    /// Before the first step.
    fn begin(&self);

    /// After every step, with its loss.
    fn step(&self, progress: Progress, loss: f32);

    /// After every epoch, of so many; `Break` ends the run with what is learned so far saved.
    fn epoch(&self, metrics: &EpochMetrics, epochs: usize) -> ControlFlow<()>;
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// In numbers.
    pub result: RunResult,
    /// Picture by picture.
    pub measured: Measured,
}

/// Why a run has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LearnError {
    /// The watcher ended it; the folder holds what is needed to go on.
    #[error("stopped after epoch {epochs_done} of {epochs}; go on with: contextune resume {}", run.display())]
    Stopped {
        /// The run folder.
        run: PathBuf,
        /// Epochs done.
        epochs_done: usize,
        /// Epochs of the whole run.
        epochs: usize,
    },
    /// A step needs more memory than there is.
    #[error(
        "a step with {pictures} pictures needs about {:.1} GB, and {:.1} GB are free: use fewer pictures in a step (--batch-size) or a shorter prompt (--tokens)",
        *needed as f64 / 1e9, *there as f64 / 1e9
    )]
    TooLarge {
        /// Pictures in a step.
        pictures: usize,
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that are free.
        there: u64,
    },
    /// There is nothing to learn from.
    #[error("there is nothing to learn from: {0}")]
    NoTraining(FeatureError),
    /// There is nothing to measure on.
    #[error("there is nothing to measure the accuracy on in the {split} split: {source}")]
    NothingToMeasure {
        /// The split that was asked for.
        split: Split,
        /// Why.
        source: FeatureError,
    },
    /// The run folder.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The data set.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The pictures.
    #[error(transparent)]
    Features(#[from] FeatureError),
    /// The method.
    #[error(transparent)]
    Method(#[from] MethodError),
    /// The training.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The prompt file.
    #[error(transparent)]
    Prompt(#[from] PromptFileError),
}

/// The way from pictures to what the method of `settings` is given of them; features are kept below `cache`.
///
/// # Errors
/// The model cannot be read.
pub fn encoder<'a>(
    settings: &Settings,
    model: &'a Model,
    cache: Option<PathBuf>,
) -> Result<ExampleEncoder<'a>, ModelError> {
    encoder_of(settings, model, cache, settings.method.learn().sees(model))
}

/// The way from the same pictures to their features, whatever the method is given of them.
///
/// # Errors
/// The model cannot be read.
pub fn feature_encoder<'a>(
    settings: &Settings,
    model: &'a Model,
    cache: Option<PathBuf>,
) -> Result<ExampleEncoder<'a>, ModelError> {
    encoder_of(settings, model, cache, Sees::Features)
}

fn encoder_of<'a>(
    settings: &Settings,
    model: &'a Model,
    cache: Option<PathBuf>,
    sees: Sees,
) -> Result<ExampleEncoder<'a>, ModelError> {
    let options = settings.encoding(cache);
    Ok(ExampleEncoder::new(
        model,
        &model.fingerprint()?,
        options,
        sees,
    ))
}

/// Learns what `settings` say on `dataset` (not yet sampled), from where the folder is or from the beginning, and finishes
/// the folder.
///
/// # Errors
/// All of [`LearnError`].
pub fn learn(
    settings: &Settings,
    dataset: &Dataset,
    model: &Model,
    encoder: &ExampleEncoder<'_>,
    folder: &RunFolder,
    watcher: &impl RunWatcher,
) -> Result<Outcome, LearnError> {
    settings.check(model)?;
    let method = settings.method.learn();
    let sampled = sample(settings, dataset, watcher)?;
    let train = match method.learns() {
        true => features_of(&sampled, settings, encoder, watcher)?,
        false => LabelledFeatures::nothing(model.config().embedding_width),
    };
    let val = match method.uses_validation() && !sampled.val.is_empty() {
        true => Some(encoder.labelled(&sampled, &sampled.val, Views::Whole, watcher)?),
        false => None,
    };
    let lesson = Lesson {
        model,
        class_names: &sampled.class_names,
        train: &train,
        val: val.as_ref(),
        initial: &settings.initial,
        seed: settings.seed,
    };

    let at_once = settings.training.batch_size.unwrap_or(usize::MAX);
    let at_once = at_once.min(train.pictures());
    if let Some(needed) = method.step_bytes(model, at_once)
        && let Some(there) = available_memory_bytes()
        && needed > there
    {
        return Err(LearnError::TooLarge {
            pictures: at_once,
            needed,
            there,
        });
    }
    if let Some(remark) = method.remark(model) {
        watcher.remark(remark);
    }

    let started = Instant::now();
    let beginning = method.begin(&lesson)?;
    let prompt = beginning.prompt;
    let mut state = match folder.state(model.device())? {
        Some(state) => state,
        None => TrainingState::new(beginning.parameters),
    };
    let mut seconds = started.elapsed().as_secs_f64();
    let recipe = &settings.training;
    if recipe.fit.epochs > 0 {
        let task = Classification::new(
            &*prompt,
            &train,
            recipe.views,
            recipe.batch_size.unwrap_or(usize::MAX),
            settings.seed,
            model.device(),
        );
        let mut keeper = Keeper {
            folder,
            watcher,
            epochs: recipe.fit.epochs,
            metrics: folder.metrics()?,
            saved: Instant::now(),
        };
        let steps = recipe.fit.epochs * task.steps();
        if recipe.fit.schedule.only_warms_up(recipe.fit.epochs, steps) {
            watcher.remark(
                "the learning rate rises in all of this run and never falls: more epochs, or the recipe fast, learn more"
                    .to_owned(),
            );
        }
        watcher.begin();
        fit(&task, &recipe.fit, &mut state, &mut keeper)?;
        folder.write_metrics(&keeper.metrics)?;
        if state.epochs_done < recipe.fit.epochs {
            return Err(LearnError::Stopped {
                run: folder.path().to_owned(),
                epochs_done: state.epochs_done,
                epochs: recipe.fit.epochs,
            });
        }
        seconds += keeper
            .metrics
            .iter()
            .map(|epoch| epoch.seconds)
            .sum::<f64>();
    }
    let started = Instant::now();
    let mut parameters = state.parameters;
    method.finish(&lesson, &*prompt, &mut parameters)?;
    seconds += started.elapsed().as_secs_f64();

    let learned_numbers = parameters.elements();
    let stored = prompt.stored_features(&parameters)?;
    let file = PromptFile {
        method: settings.method.clone(),
        fingerprint: model.fingerprint()?,
        class_names: sampled.class_names.clone(),
        text_features: stored.map(|features| features.into_data().try_to_vec().unwrap_or_default()),
        parameters,
    };
    file.write(&folder.prompt_file())?; // kept even if there is nothing to measure on

    let learned = (&*prompt, &file.parameters);
    let place = (&sampled, settings.measure_on);
    let measured = Measured::new(learned, model, encoder, place, watcher)?;
    let names = &sampled.class_names;
    let accuracy = measured.accuracy(names.len());
    let kept = folder.prompt_bytes();
    let result = RunResult::new(settings, &accuracy, names, learned_numbers, kept, seconds);
    folder.finish(&result)?;
    Ok(Outcome { result, measured })
}

/// What `settings` learn from: features of the sampled training pictures in the views that the recipe asks for. With a
/// cache, runs that need them later find them there.
///
/// # Errors
/// There is nothing to learn from.
pub fn training_features(
    settings: &Settings,
    dataset: &Dataset,
    encoder: &ExampleEncoder<'_>,
    watcher: &impl EncodingWatcher,
) -> Result<LabelledFeatures, LearnError> {
    let sampled = sample(settings, dataset, watcher)?;
    features_of(&sampled, settings, encoder, watcher)
}

/// [`training_features`] of what is sampled already.
fn features_of(
    sampled: &Dataset,
    settings: &Settings,
    encoder: &ExampleEncoder<'_>,
    watcher: &impl EncodingWatcher,
) -> Result<LabelledFeatures, LearnError> {
    encoder
        .labelled(sampled, &sampled.train, training_views(settings), watcher)
        .map_err(LearnError::NoTraining)
}

/// The examples, and then the classes, that the settings ask for.
///
/// # Errors
/// Shots that cannot be drawn.
pub fn sample(
    settings: &Settings,
    dataset: &Dataset,
    watcher: &impl EncodingWatcher,
) -> Result<Dataset, DataError> {
    let sampled = match (settings.shots, settings.examples) {
        (Some(shots), _) => few_shot(dataset, shots, settings.seed, watcher)?,
        (None, Some(examples)) => {
            let sampled = dataset.fixed_sample(examples)?;
            remark_on(dataset, &sampled, watcher);
            sampled
        }
        (None, None) => dataset.clone(),
    };
    let sampled = match settings.learn_from {
        LearnFrom::Train => sampled,
        LearnFrom::TrainAndVal => sampled.learning_from_val()?,
    };
    Ok(sampled.subset(settings.subset))
}

/// The few shots that a run learns from, drawn by the seed, with a remark on whatever is unusual about the sample.
///
/// # Errors
/// See [`Dataset::few_shot`].
pub fn few_shot(
    dataset: &Dataset,
    shots: usize,
    seed: u64,
    watcher: &impl EncodingWatcher,
) -> Result<Dataset, DataError> {
    let sampled = dataset.few_shot(shots, seed)?;
    remark_on(dataset, &sampled, watcher);
    Ok(sampled)
}

/// Says what is unusual about a sample; of the whole data set that was said when it was opened.
fn remark_on(dataset: &Dataset, sampled: &Dataset, watcher: &impl EncodingWatcher) {
    for warning in sampled.warnings.iter().skip(dataset.warnings.len()) {
        watcher.remark(warning.to_string());
    }
}

/// The views to encode for the views to learn from.
fn training_views(settings: &Settings) -> Views {
    let recipe = &settings.training;
    let count = match recipe.views {
        TrainingViews::Whole => return Views::Whole,
        TrainingViews::Fresh => recipe.fit.epochs.max(1),
        TrainingViews::Drawn { count } | TrainingViews::All { count } => count,
    };
    Views::Random {
        count,
        least_area: recipe.least_area,
        seed: settings.seed,
    }
}

/// Keeps the run resumable.
struct Keeper<'a, W> {
    folder: &'a RunFolder,
    watcher: &'a W,
    epochs: usize,
    metrics: Vec<EpochMetrics>,
    saved: Instant,
}

impl<W: RunWatcher> Observer for Keeper<'_, W> {
    fn step(&mut self, progress: Progress, loss: f32) {
        self.watcher.step(progress, loss);
    }

    fn epoch(
        &mut self,
        metrics: &EpochMetrics,
        state: &TrainingState,
    ) -> Result<ControlFlow<()>, TrainError> {
        // A run killed between state and metrics repeats the epoch: its line is replaced.
        self.metrics.retain(|old| old.epoch < metrics.epoch);
        self.metrics.push(metrics.clone());
        let flow = self.watcher.epoch(metrics, self.epochs);
        if flow.is_break() || self.saved.elapsed().as_secs() >= SAVE_EVERY_SECONDS {
            let save = || {
                self.folder.write_metrics(&self.metrics)?;
                self.folder.save_state(state)
            };
            save().map_err(|error: RunError| TrainError::Observer(error.into()))?;
            self.saved = Instant::now();
        }
        Ok(flow)
    }
}
