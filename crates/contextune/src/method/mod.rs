//! What is learned and how, one file per method; [`crate::run::registry`] lists them.

use std::fmt::Debug;

use burn::tensor::Tensor;
use serde::Serialize;
use serde::de::DeserializeOwned;

mod error;
pub mod feature;
pub mod image;
mod initial;
pub mod layout;
mod needs;
mod recipe;
pub mod text;

pub use error::{MethodError, SettingError};
pub use initial::Initialisation;
pub use needs::Needs;
pub use recipe::{Grid, Recipe, RecipeName};

use self::layout::ContextLayout;
use crate::architecture::ModelConfig;
use crate::input::Examples;
use crate::model::Model;
use crate::parameters::{ExpectedTensor, Parameters, Size};
use crate::task::{Prompt, Task, TrainingViews};

/// A method: its settings, and what it does with them.
///
/// The settings are kept in the run's `run.toml` and in the metadata of its prompt file, under the names of their fields; `name`,
/// `method`, `format_version`, `fingerprint` and `classnames` are names that the files use themselves, and so is `text_features`
/// among the tensors.
pub trait Method:
    Serialize + DeserializeOwned + Clone + PartialEq + Debug + Send + Sync + 'static
{
    /// The name in the registry and in files, in kebab case.
    const NAME: &'static str;

    /// What is learned to be done.
    type Task: Task;

    /// Returns what the method needs of this model.
    fn needs(&self, model: &ModelConfig) -> Needs;

    /// Refuses settings that exclude each other or do not fit the model, before any example is read.
    ///
    /// # Errors
    /// The setting and what is wrong with it.
    fn check(&self, _model: &ModelConfig) -> Result<(), SettingError> {
        Ok(())
    }

    /// Lists every tensor that a prompt of this method holds, learned or constant, for so many classes. Prompt files and
    /// resumed runs are held to it before they are used.
    ///
    /// # Errors
    /// What keeps the method from this model.
    fn tensors(&self, model: &Model, classes: Size) -> Result<Vec<ExpectedTensor>, MethodError>;

    /// Returns where learning begins: the prompt, and its parameters. A method without steps has learned already.
    ///
    /// # Errors
    /// Class names or an initialisation that do not fit the model.
    fn begin(&self, lesson: &Lesson<'_, Self::Task>) -> Result<Beginning<Self::Task>, MethodError>;

    /// Does what is left to do after the last step.
    ///
    /// # Errors
    /// Whatever the prompt reports.
    fn finish(
        &self,
        _lesson: &Lesson<'_, Self::Task>,
        _prompt: &dyn Prompt<Self::Task>,
        _parameters: &mut Parameters,
    ) -> Result<(), MethodError> {
        Ok(())
    }

    /// Returns the prompt for using `parameters` again, which hold what [`Self::tensors`] lists; `stored` are the class features
    /// `[K, D]` of these very classes that the prompt file holds, if it does.
    ///
    /// # Errors
    /// Class names that do not fit the model.
    fn open(
        &self,
        model: &Model,
        class_names: &[String],
        parameters: &Parameters,
        stored: Option<Tensor<2>>,
    ) -> Result<Box<dyn Prompt<Self::Task>>, MethodError>;

    /// Returns how the method's authors train it with so many examples of each class; `None`: with all.
    fn published(&self, shots: Option<usize>) -> Recipe;

    /// Returns the rates that the authors choose from on validation examples, for their recipe; `None` where they choose none.
    fn published_grid(&self) -> Option<Grid> {
        None
    }

    /// Returns what reaches about the same in a fraction of the time: unless the method knows better, as published but on the
    /// pictures as they are, which are encoded once instead of once an epoch.
    fn fast(&self, shots: Option<usize>) -> Recipe {
        Recipe {
            views: TrainingViews::Whole,
            ..self.published(shots)
        }
    }

    /// Returns what a person should know before it learns with this model.
    fn remark(&self, _model: &ModelConfig) -> Option<String> {
        None
    }

    /// Returns about how much memory a step with so many examples needs beside the model, in bytes; `None` where it is little.
    fn step_bytes(&self, _model: &ModelConfig, _examples: usize) -> Option<u64> {
        None
    }

    /// Tells whether there is anything to learn at all.
    fn learns(&self) -> bool {
        true
    }

    /// Tells whether it chooses settings by validation examples.
    fn uses_validation(&self) -> bool {
        false
    }

    /// Returns how the learned context vectors stand in the prompts; `None` if the method has none.
    fn context_layout(&self) -> Option<ContextLayout> {
        None
    }

    /// Tells whether what was learned says something about other classes than it was learned for.
    fn takes_other_classes(&self) -> bool {
        true
    }
}

/// What a method learns from.
#[derive(Debug)]
pub struct Lesson<'a, T: Task> {
    /// The frozen model.
    pub model: &'a Model,
    /// The classes, K of them; none for a task without classes.
    pub class_names: &'a [String],
    /// The training examples in the views that the recipe asks for.
    pub train: &'a Examples<T::Target>,
    /// Examples to choose settings by, if the data set has any.
    pub val: Option<&'a Examples<T::Target>>,
    /// Where learning begins.
    pub initial: &'a Initialisation,
    /// Seed of everything random.
    pub seed: u64,
}

/// Where learning begins.
#[derive(Debug)]
pub struct Beginning<T: Task> {
    /// What turns inputs into outputs.
    pub prompt: Box<dyn Prompt<T>>,
    /// What it learns, and what it needs besides.
    pub parameters: Parameters,
}
