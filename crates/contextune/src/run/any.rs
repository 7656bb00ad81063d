//! Methods of all tasks as one type, as runs, the server and the command line know them.

use std::any::Any;
use std::fmt::{self, Debug, Display};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use erased_serde::Serialize as ErasedSerialize;
use serde::{Serialize, Serializer};

use super::error::LearnError;
use super::learning::{self, Job, JobOutcome};
use crate::architecture::ModelConfig;
use crate::data::{DataError, Sampling};
use crate::format::{MethodRecord, PromptFile};
use crate::input::{EncodingWatcher, InputEncoder, InputTable, Inputs};
use crate::method::text::coop::ContextLayout;
use crate::method::{Grid, Method, MethodError, Needs, Recipe, RecipeName, SettingError};
use crate::model::Model;
use crate::task::{Predictor, PromptError, Task, TaskDataset};

/// A method with its settings, whatever its task.
#[derive(Clone, Debug)]
pub struct AnyMethod(Arc<dyn ErasedMethod>);

/// What every method can do, whatever its task; see [`Method`], of which each of these is the counterpart.
#[allow(missing_docs, reason = "they are documented where they are defined")]
pub trait ErasedMethod: Any + Debug + Send + Sync {
    fn name(&self) -> &'static str;
    fn task(&self) -> &'static str;
    fn needs(&self, model: &ModelConfig) -> Needs;
    fn check(&self, model: &ModelConfig) -> Result<(), SettingError>;
    fn published(&self, shots: Option<usize>) -> Recipe;
    fn published_grid(&self) -> Option<Grid>;
    fn fast(&self, shots: Option<usize>) -> Recipe;
    fn learns(&self) -> bool;
    fn uses_validation(&self) -> bool;
    fn context_layout(&self) -> Option<ContextLayout>;
    fn takes_other_classes(&self) -> bool;

    /// Returns the method as files keep it.
    ///
    /// # Errors
    /// Settings that are no table.
    fn record(&self) -> Result<MethodRecord, LearnError>;

    /// Opens a data set of the method's task.
    ///
    /// # Errors
    /// See [`Task::open`].
    fn open_dataset(&self, path: &Path, seed: u64) -> Result<Box<dyn TaskDataset>, DataError>;

    /// Learns what `job` says on a data set of the method's task.
    ///
    /// # Errors
    /// All of [`LearnError`].
    fn learn(&self, job: &Job<'_>, dataset: &dyn TaskDataset) -> Result<JobOutcome, LearnError>;

    /// Encodes the training examples that `sampling` asks for in the views of `recipe`.
    ///
    /// # Errors
    /// There is nothing to learn from.
    fn encode_training(
        &self,
        recipe: &Recipe,
        sampling: &Sampling,
        encoder: &InputEncoder<'_>,
        dataset: &dyn TaskDataset,
        watcher: &dyn EncodingWatcher,
    ) -> Result<(), LearnError>;

    /// Checks that a prompt file holds what the method learns with this model.
    ///
    /// # Errors
    /// Settings that do not fit the model, and the first tensor that is not what it should be.
    fn check_file(&self, model: &Model, file: &PromptFile) -> Result<(), MethodError>;

    /// Opens what was learned again, for these classes.
    ///
    /// # Errors
    /// Tensors that are not those of the method, other classes than it can say something about.
    fn predictor(
        &self,
        model: &Model,
        file: &PromptFile,
        class_names: &[String],
    ) -> Result<AnyPredictor, MethodError>;

    #[doc(hidden)]
    fn tagged(&self) -> &dyn ErasedSerialize;
    #[doc(hidden)]
    fn equals(&self, other: &dyn ErasedMethod) -> bool;
}

/// A [`Predictor`] of any task.
#[derive(Debug)]
pub struct AnyPredictor(Box<dyn ErasedPredictor>);

/// What every predictor can do, whatever its task.
pub trait ErasedPredictor: Any + Debug + Send + Sync {
    /// Returns what is said of each input, with so many of its most probable answers.
    ///
    /// # Errors
    /// Inputs of another kind than the prompt works on.
    fn answers(&self, inputs: &Inputs, count: usize) -> Result<Vec<AnyAnswer>, PromptError>;

    /// Returns the same for the first view of every input of a table, in bounded memory.
    ///
    /// # Errors
    /// An input that cannot be read any more.
    fn all_answers(&self, inputs: &InputTable, count: usize)
    -> Result<Vec<AnyAnswer>, PromptError>;
}

/// What is said of an input, for programs (as JSON) and for people (as a line).
pub struct AnyAnswer {
    json: Box<dyn ErasedSerialize + Send + Sync>,
    line: String,
}

/// A method as it is serialised: with its name among its settings.
#[derive(Debug, Serialize)]
struct Tagged<M> {
    name: &'static str,
    #[serde(flatten)]
    settings: M,
}

impl<M: Method> ErasedMethod for Tagged<M> {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn task(&self) -> &'static str {
        <M::Task as Task>::NAME
    }

    fn needs(&self, model: &ModelConfig) -> Needs {
        self.settings.needs(model)
    }

    fn check(&self, model: &ModelConfig) -> Result<(), SettingError> {
        self.settings.check(model)
    }

    fn published(&self, shots: Option<usize>) -> Recipe {
        self.settings.published(shots)
    }

    fn published_grid(&self) -> Option<Grid> {
        self.settings.published_grid()
    }

    fn fast(&self, shots: Option<usize>) -> Recipe {
        self.settings.fast(shots)
    }

    fn learns(&self) -> bool {
        self.settings.learns()
    }

    fn uses_validation(&self) -> bool {
        self.settings.uses_validation()
    }

    fn context_layout(&self) -> Option<ContextLayout> {
        self.settings.context_layout()
    }

    fn takes_other_classes(&self) -> bool {
        self.settings.takes_other_classes()
    }

    fn record(&self) -> Result<MethodRecord, LearnError> {
        learning::record(&self.settings)
    }

    fn open_dataset(&self, path: &Path, seed: u64) -> Result<Box<dyn TaskDataset>, DataError> {
        Ok(Box::new(<M::Task as Task>::open(path, seed)?))
    }

    fn learn(&self, job: &Job<'_>, dataset: &dyn TaskDataset) -> Result<JobOutcome, LearnError> {
        learning::learn(&self.settings, job, dataset_of::<M>(dataset)?)
    }

    fn encode_training(
        &self,
        recipe: &Recipe,
        sampling: &Sampling,
        encoder: &InputEncoder<'_>,
        dataset: &dyn TaskDataset,
        watcher: &dyn EncodingWatcher,
    ) -> Result<(), LearnError> {
        let dataset = dataset_of::<M>(dataset)?;
        learning::encode_training::<M>(recipe, sampling, encoder, dataset, watcher)
    }

    fn check_file(&self, model: &Model, file: &PromptFile) -> Result<(), MethodError> {
        learning::check(&self.settings, model, file)
    }

    fn predictor(
        &self,
        model: &Model,
        file: &PromptFile,
        class_names: &[String],
    ) -> Result<AnyPredictor, MethodError> {
        let predictor = learning::predictor(&self.settings, model, file, class_names)?;
        Ok(AnyPredictor(Box::new(predictor)))
    }

    fn tagged(&self) -> &dyn ErasedSerialize {
        self
    }

    fn equals(&self, other: &dyn ErasedMethod) -> bool {
        let other: &dyn Any = other;
        other
            .downcast_ref::<Self>()
            .is_some_and(|other| other.settings == self.settings)
    }
}

fn dataset_of<M: Method>(
    dataset: &dyn TaskDataset,
) -> Result<&<M::Task as Task>::Dataset, LearnError> {
    let path = dataset.place().root.to_owned();
    let dataset: &dyn Any = dataset;
    dataset.downcast_ref().ok_or(LearnError::OtherDataset {
        path,
        task: <M::Task as Task>::NAME,
    })
}

impl<M: Method> From<M> for AnyMethod {
    fn from(settings: M) -> Self {
        Self(Arc::new(Tagged {
            name: M::NAME,
            settings,
        }))
    }
}

impl Deref for AnyMethod {
    type Target = dyn ErasedMethod;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl AnyMethod {
    /// Returns the recipe of this name for so many examples of each class; `None`: for all.
    pub fn recipe(&self, name: RecipeName, shots: Option<usize>) -> Recipe {
        match name {
            RecipeName::Published => self.published(shots),
            RecipeName::Fast => self.fast(shots),
        }
    }

    /// Returns the settings, if the method is of this type.
    pub fn settings<M: Method>(&self) -> Option<&M> {
        let method: &dyn Any = &*self.0;
        method
            .downcast_ref::<Tagged<M>>()
            .map(|tagged| &tagged.settings)
    }
}

impl PartialEq for AnyMethod {
    fn eq(&self, other: &Self) -> bool {
        self.0.equals(&*other.0)
    }
}

impl Serialize for AnyMethod {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        erased_serde::serialize(self.0.tagged(), serializer)
    }
}

impl<T: Task> ErasedPredictor for Predictor<T> {
    fn answers(&self, inputs: &Inputs, count: usize) -> Result<Vec<AnyAnswer>, PromptError> {
        let guesses = T::guesses(self.output(inputs)?, count)?;
        Ok(named(self, &guesses))
    }

    fn all_answers(
        &self,
        inputs: &InputTable,
        count: usize,
    ) -> Result<Vec<AnyAnswer>, PromptError> {
        Ok(named(self, &self.guesses(inputs, count)?))
    }
}

fn named<T: Task>(predictor: &Predictor<T>, guesses: &[T::Guess]) -> Vec<AnyAnswer> {
    let answers = guesses.iter().map(|guess| {
        let answer = T::answer(guess, predictor.class_names());
        AnyAnswer {
            line: answer.to_string(),
            json: Box::new(answer),
        }
    });
    answers.collect()
}

impl AnyPredictor {
    /// Turns it into a predictor of this task.
    ///
    /// # Errors
    /// [`MethodError::OtherTask`]: `method` learns another one.
    pub fn into<T: Task>(self, method: &AnyMethod) -> Result<Predictor<T>, MethodError> {
        let predictor: Box<dyn Any> = self.0;
        match predictor.downcast::<Predictor<T>>() {
            Ok(predictor) => Ok(*predictor),
            Err(_) => Err(MethodError::OtherTask {
                method: method.name().to_owned(),
                found: method.task(),
                needed: T::NAME,
            }),
        }
    }
}

impl Deref for AnyPredictor {
    type Target = dyn ErasedPredictor;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl Serialize for AnyAnswer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        erased_serde::serialize(&*self.json, serializer)
    }
}

impl Display for AnyAnswer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.line)
    }
}

impl Debug for AnyAnswer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("AnyAnswer")
            .field(&self.line)
            .finish()
    }
}
