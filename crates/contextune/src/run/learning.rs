//! Learning, for every method and task alike: sample, encode, learn, write the prompt, measure.

use std::any::Any;
use std::ops::ControlFlow;
use std::time::Instant;

use super::error::LearnError;
use super::folder::{RunError, RunFolder};
use super::memory::available_memory_bytes;
use super::watcher::RunWatcher;
use crate::data::{LearnFrom, Sampling, Split};
use crate::format::{MethodRecord, PromptFile, RESERVED, TEXT_FEATURES};
use crate::input::{EncodingWatcher, Examples, InputEncoder, InputError, Views};
use crate::method::{Initialisation, Lesson, Method, MethodError, Recipe};
use crate::model::Model;
use crate::parameters::{ParameterError, Parameters, Size, elements_of};
use crate::task::{
    MeasureError, Measured, Measures, Predictor, PromptError, Task, TaskDataset, Training,
    TrainingViews,
};
use crate::train::{
    EpochMetrics, Observer, Problem as _, Progress, TrainError, TrainingState, fit,
};

/// A short epoch need not be saved on its own: repeating it costs less.
const SAVE_EVERY_SECONDS: u64 = 2;

/// All that decides what is learned, but the method and the data.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The frozen model.
    pub model: &'a Model,
    /// The way from examples to what the method is given of them.
    pub encoder: &'a InputEncoder<'a>,
    /// Where it is kept.
    pub folder: &'a RunFolder,
    /// Who watches.
    pub watcher: &'a dyn RunWatcher,
    /// How it is learned.
    pub recipe: &'a Recipe,
    /// Where it begins.
    pub initial: &'a Initialisation,
    /// What of the data is learned from.
    pub sampling: Sampling,
    /// The split that it is measured on.
    pub measure_on: Split,
}

/// What was learned, and how good it is.
#[derive(Debug)]
pub struct JobOutcome {
    /// The split that it was measured on.
    pub split: Split,
    /// How good it is there.
    pub measures: Measures,
    /// Why it was not measured, if it was not.
    pub unmeasured: Option<String>,
    /// Example by example; absent if it was not measured.
    pub measured: Option<AnyMeasured>,
    /// Trained elements.
    pub parameters: usize,
    /// Seconds of training, without encoding and evaluation.
    pub seconds: f64,
    /// The classes, K of them.
    pub class_names: Vec<String>,
}

/// A [`Measured`] of any task.
#[derive(Debug)]
pub struct AnyMeasured(Box<dyn Any + Send + Sync>);

impl AnyMeasured {
    /// Forgets the task.
    pub fn new<T: Task>(measured: Measured<T>) -> Self {
        Self(Box::new(measured))
    }

    /// Returns what was measured, if it is of this task.
    pub fn of<T: Task>(&self) -> Option<&Measured<T>> {
        self.0.downcast_ref()
    }
}

/// Learns `method` on `dataset`, not sampled yet, from where the folder is or from the beginning, and writes the prompt.
///
/// # Errors
/// All of [`LearnError`].
pub(super) fn learn<M: Method>(
    method: &M,
    job: &Job<'_>,
    dataset: &<M::Task as Task>::Dataset,
) -> Result<JobOutcome, LearnError> {
    let Job {
        model,
        encoder,
        folder,
        watcher,
        recipe,
        ..
    } = *job;
    let sampled = sampled::<M>(&job.sampling, dataset, watcher)?;
    let class_names = sampled.class_names().to_vec();
    let train = match method.learns() {
        true => {
            let views = training_views(recipe, job.sampling.seed);
            examples::<M::Task>(&sampled, Split::Train, views, encoder, watcher)
                .map_err(LearnError::NoTraining)?
        }
        false => Examples::none(model.config().embedding_width),
    };
    let val = match method.uses_validation() && sampled.has(Split::Val) {
        true => Some(examples::<M::Task>(
            &sampled,
            Split::Val,
            Views::Whole,
            encoder,
            watcher,
        )?),
        false => None,
    };
    let lesson = Lesson {
        model,
        class_names: &class_names,
        train: &train,
        val: val.as_ref(),
        initial: job.initial,
        seed: job.sampling.seed,
    };
    check_memory(method, job, train.count())?;
    if let Some(remark) = method.remark(model.config()) {
        watcher.remark(remark);
    }

    let started = Instant::now();
    let beginning = method.begin(&lesson)?;
    let prompt = beginning.prompt;
    let table = method.tensors(model, Size::Exactly(class_names.len()))?;
    beginning
        .parameters
        .check(&table)
        .map_err(MethodError::from)?;
    if let Some(taken) = table.iter().find(|tensor| tensor.name == TEXT_FEATURES) {
        return Err(MethodError::Unwritable {
            method: M::NAME.to_owned(),
            problem: format!("the name {} belongs to the prompt file", taken.name),
        }
        .into());
    }
    let training = Training::new(
        &*prompt,
        &train,
        recipe.views,
        recipe.batch_size.unwrap_or(usize::MAX),
        job.sampling.seed,
        model.device(),
    );
    let mut state = match folder.state(model.device())? {
        Some(mut state) => {
            let fits = state.check(&beginning.parameters, recipe.fit.epochs, training.steps());
            fits.map_err(|problem| folder.damaged_state(problem))?;
            // They are the same in every run of these settings, whatever the file says.
            state.parameters.take_constants(&beginning.parameters);
            state
        }
        None => TrainingState::new(beginning.parameters),
    };
    let mut seconds = started.elapsed().as_secs_f64();
    if recipe.fit.epochs > 0 {
        seconds += train_on(&training, job, &mut state)?;
    }
    let started = Instant::now();
    let mut parameters = state.parameters;
    method.finish(&lesson, &*prompt, &mut parameters)?;
    seconds += started.elapsed().as_secs_f64();

    let learned_numbers = parameters.elements();
    let stored = prompt
        .stored_features(&parameters)
        .map_err(MethodError::from)?;
    let file = PromptFile {
        method: record(method)?,
        fingerprint: model.fingerprint()?,
        class_names: class_names.clone(),
        text_features: stored
            .map(|features| elements_of("text_features", features))
            .transpose()
            .map_err(MethodError::from)?,
        parameters: parameters.clone(),
    };
    file.write(&folder.prompt_file())?; // kept even if there is nothing to measure on

    let device = model.device();
    let predictor = Predictor::new(prompt, parameters, class_names.clone(), device)
        .map_err(MethodError::from)?;
    let (split, outcome) = measure(&predictor, &sampled, job)?;
    let measures = match &outcome {
        Ok(measured) => measured.measures(&class_names),
        Err(_) => Measures::default(),
    };
    let (measured, unmeasured) = match outcome {
        Ok(measured) => (Some(AnyMeasured::new(measured)), None),
        Err(reason) => {
            watcher.remark(reason.clone());
            (None, Some(reason))
        }
    };
    Ok(JobOutcome {
        split,
        measures,
        unmeasured,
        measured,
        parameters: learned_numbers,
        seconds,
        class_names,
    })
}

/// Encodes the training examples that `sampling` asks for in the views of `recipe`: with a cache, runs that need them later find them there.
///
/// # Errors
/// There is nothing to learn from.
pub(super) fn encode_training<M: Method>(
    recipe: &Recipe,
    sampling: &Sampling,
    encoder: &InputEncoder<'_>,
    dataset: &<M::Task as Task>::Dataset,
    watcher: &dyn EncodingWatcher,
) -> Result<(), LearnError> {
    let sampled = sampled::<M>(sampling, dataset, watcher)?;
    let views = training_views(recipe, sampling.seed);
    examples::<M::Task>(&sampled, Split::Train, views, encoder, watcher)
        .map(drop)
        .map_err(LearnError::NoTraining)
}

/// The method as files keep it.
pub(super) fn record<M: Method>(method: &M) -> Result<MethodRecord, LearnError> {
    let unwritable = |problem: String| MethodError::Unwritable {
        method: M::NAME.to_owned(),
        problem,
    };
    match serde_json::to_value(method) {
        Ok(serde_json::Value::Object(settings)) => {
            match RESERVED.iter().find(|name| settings.contains_key(**name)) {
                Some(name) => {
                    Err(unwritable(format!("the name {name} belongs to the files")).into())
                }
                None => Ok(MethodRecord {
                    name: M::NAME.to_owned(),
                    settings,
                }),
            }
        }
        Ok(_) => Err(unwritable("they are no table".to_owned()).into()),
        Err(error) => Err(unwritable(error.to_string()).into()),
    }
}

fn sampled<M: Method>(
    sampling: &Sampling,
    dataset: &<M::Task as Task>::Dataset,
    watcher: &dyn EncodingWatcher,
) -> Result<<M::Task as Task>::Dataset, LearnError> {
    let mut remark = |text| watcher.remark(text);
    Ok(<M::Task as Task>::sample(dataset, sampling, &mut remark)?)
}

/// The examples of a split that can be read.
fn examples<T: Task>(
    dataset: &T::Dataset,
    split: Split,
    views: Views,
    encoder: &InputEncoder<'_>,
    watcher: &dyn EncodingWatcher,
) -> Result<Examples<T::Target>, InputError> {
    let (inputs, targets) = T::examples(dataset, split);
    let (kept, table) = encoder.inputs(dataset.place(), &inputs, views, watcher)?;
    let targets = kept.into_iter().map(|example| targets[example].clone());
    Ok(Examples::new(table, targets.collect()))
}

/// Refuses a step that needs more memory than there is.
fn check_memory<M: Method>(method: &M, job: &Job<'_>, examples: usize) -> Result<(), LearnError> {
    let at_once = job.recipe.batch_size.unwrap_or(usize::MAX).min(examples);
    match (
        method.step_bytes(job.model.config(), at_once),
        available_memory_bytes(),
    ) {
        (Some(needed), Some(there)) if needed > there => Err(LearnError::TooLarge {
            examples: at_once,
            needed,
            there,
        }),
        _ => Ok(()),
    }
}

/// Trains to the last epoch and returns the seconds of all epochs, those before a resume included.
fn train_on<T: Task>(
    training: &Training<'_, T>,
    job: &Job<'_>,
    state: &mut TrainingState,
) -> Result<f64, LearnError> {
    let Job {
        folder,
        watcher,
        recipe,
        ..
    } = *job;
    let mut keeper = Keeper {
        folder,
        watcher,
        epochs: recipe.fit.epochs,
        metrics: folder.metrics()?,
        saved: Instant::now(),
    };
    let steps = recipe.fit.epochs * training.steps();
    if recipe.fit.schedule.only_warms_up(recipe.fit.epochs, steps) {
        watcher.remark(
            "the learning rate rises in all of this run and never falls: more epochs, or the recipe fast, learn more"
                .to_owned(),
        );
    }
    watcher.begin();
    fit(training, &recipe.fit, state, &mut keeper)?;
    folder.write_metrics(&keeper.metrics)?;
    if state.epochs_done < recipe.fit.epochs {
        return Err(LearnError::Stopped {
            run: folder.path().to_owned(),
            epochs_done: state.epochs_done,
            epochs: recipe.fit.epochs,
        });
    }
    Ok(keeper.metrics.iter().map(|epoch| epoch.seconds).sum())
}

/// Measures on the split that was asked for, or on validation examples where there are no test examples; the inner error
/// says why nothing could be measured.
fn measure<T: Task>(
    predictor: &Predictor<T>,
    sampled: &T::Dataset,
    job: &Job<'_>,
) -> Result<(Split, Result<Measured<T>, String>), LearnError> {
    let learned_from_val = job.sampling.learn_from == LearnFrom::TrainAndVal;
    let split = match job.measure_on {
        Split::Test
            if !sampled.has(Split::Test) && sampled.has(Split::Val) && !learned_from_val =>
        {
            job.watcher
                .remark("there is no test split: measured on the val split".to_owned());
            Split::Val
        }
        split => split,
    };
    match Measured::new(predictor, sampled, split, job.encoder, job.watcher) {
        Ok(measured) => Ok((split, Ok(measured))),
        Err(error) => match &error {
            MeasureError::Nothing {
                source: InputError::NoExamples { .. } | InputError::NothingReadable { .. },
                ..
            } => Ok((split, Err(error.to_string()))),
            _ => Err(error.into()),
        },
    }
}

/// The views to encode for the views to learn from.
fn training_views(recipe: &Recipe, seed: u64) -> Views {
    let count = match recipe.views {
        TrainingViews::Whole => return Views::Whole,
        TrainingViews::Fresh => recipe.fit.epochs.max(1),
        TrainingViews::Drawn { count } | TrainingViews::All { count } => count,
    };
    Views::Random {
        count,
        least_area: recipe.least_area,
        seed,
    }
}

/// Keeps the run resumable.
struct Keeper<'a> {
    folder: &'a RunFolder,
    watcher: &'a dyn RunWatcher,
    epochs: usize,
    metrics: Vec<EpochMetrics>,
    saved: Instant,
}

impl Observer for Keeper<'_> {
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

/// Checks that a prompt file holds what `method` learns with this model, before anything is computed with it.
///
/// # Errors
/// Settings that do not fit the model, and the first tensor that is not what it should be.
pub(super) fn check<M: Method>(
    method: &M,
    model: &Model,
    file: &PromptFile,
) -> Result<(), MethodError> {
    method.check(model.config())?;
    method.needs(model.config()).check(model)?;
    let classes = match file.class_names.len() {
        0 => Size::Any('K'), // imported without names
        classes => Size::Exactly(classes),
    };
    file.parameters.check(&method.tensors(model, classes)?)?;
    check_features(file, model)
}

/// What was learned, opened again for these classes.
///
/// # Errors
/// Tensors that are not those of the method, other classes than it can say something about, and what keeps the prompt from
/// being built.
pub(super) fn predictor<M: Method>(
    method: &M,
    model: &Model,
    file: &PromptFile,
    class_names: &[String],
) -> Result<Predictor<M::Task>, MethodError> {
    check(method, model, file)?;
    if <M::Task as Task>::HAS_CLASSES && class_names.is_empty() {
        return Err(MethodError::NoClasses);
    }
    let same = file.class_names == class_names;
    if !same && !method.takes_other_classes() {
        return Err(MethodError::OtherClasses {
            method: M::NAME.to_owned(),
        });
    }
    let stored = match same {
        true => file.stored_features(model.device()),
        false => None,
    };
    let parameters: Parameters = file.parameters.clone();
    let prompt = method.open(model, class_names, &parameters, stored)?;
    let class_names = class_names.to_vec();
    let predictor = Predictor::new(prompt, parameters, class_names, model.device());
    predictor.map_err(|error: PromptError| error.into())
}

/// Refuses stored class features that are not as wide as the model's.
fn check_features(file: &PromptFile, model: &Model) -> Result<(), MethodError> {
    let expected = model.config().embedding_width;
    match file.feature_width() {
        Some(found) if found != expected => Err(ParameterError::Shape {
            name: "text_features".to_owned(),
            found: vec![file.class_names.len(), found],
            expected: format!("[{}, {expected}]", file.class_names.len()),
        }
        .into()),
        _ => Ok(()),
    }
}
