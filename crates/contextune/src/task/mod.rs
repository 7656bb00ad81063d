//! What is to be done, between a method and a run: what an example's input and target are, what a prompt makes of them, how
//! good that is, and what is answered.
//!
//! Runs, prompt files and the registry of methods know a task by [`Task`] alone; [`classify`] is the first one. What shows answers
//! to people (pages, the server, some commands) has a part for each task.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::path::Path;

use burn::tensor::Tensor;
use serde::Serialize;

mod class_features;
pub mod classify;
mod measured;
mod predictor;
mod prompt;
mod training;

pub use class_features::{ClassFeatures, LearnedClassifier};
pub use classify::Classify;
pub use measured::{MeasureError, Measured};
pub use predictor::Predictor;
pub use prompt::{Batch, Prompt, PromptError};
pub use training::{Training, TrainingViews};

use crate::data::{DataError, Input, Sampling, Split};
use crate::input::Place;
use crate::parameters::ParameterError;

/// What is to be done with an input.
pub trait Task: Debug + Send + Sync + Sized + 'static {
    /// The name of the task, such as `classify`.
    const NAME: &'static str;
    /// Whether answers are among named classes.
    const HAS_CLASSES: bool;

    /// Examples in splits, and what they have in common.
    type Dataset: TaskDataset;
    /// What is right for one example, such as a class from 0.
    type Target: Clone + Debug + Send + Sync;
    /// What a prompt makes of a batch of B inputs, such as logits `[B, K]`.
    type Output;
    /// What is kept of the output for one input: enough to tell how good it is, to answer, and to show it.
    type Guess: Clone + Debug + Send + Sync;
    /// What is said of one input.
    type Answer: Serialize + Display + Debug + Send + Sync + 'static;

    /// Opens a data set; `seed` decides only about what nothing on disk decides.
    ///
    /// # Errors
    /// A place that holds no such data set.
    fn open(path: &Path, seed: u64) -> Result<Self::Dataset, DataError>;

    /// Returns the examples that `sampling` asks for; `remark` hears what is unusual about them.
    ///
    /// # Errors
    /// A sample that cannot be drawn.
    fn sample(
        dataset: &Self::Dataset,
        sampling: &Sampling,
        remark: &mut dyn FnMut(String),
    ) -> Result<Self::Dataset, DataError>;

    /// Returns the inputs of a split and what is right for each.
    fn examples(dataset: &Self::Dataset, split: Split) -> (Vec<&Input>, Vec<Self::Target>);

    /// Returns the mean loss of a batch, `[1]`.
    fn loss(output: Self::Output, targets: &[Self::Target]) -> Tensor<1>;

    /// Counts the right outputs of a batch.
    fn correct(output: &Self::Output, targets: &[Self::Target]) -> usize;

    /// Returns what is kept of each input: its `count` most probable answers, the most probable first.
    ///
    /// # Errors
    /// The device does not compute in 32-bit floats.
    fn guesses(output: Self::Output, count: usize) -> Result<Vec<Self::Guess>, ParameterError>;

    /// Returns how good guesses are.
    fn measures(
        guesses: &[Self::Guess],
        targets: &[Self::Target],
        class_names: &[String],
    ) -> Measures;

    /// Returns what is said of an input.
    fn answer(guess: &Self::Guess, class_names: &[String]) -> Self::Answer;
}

/// What all data sets have in common.
pub trait TaskDataset: Any + Debug + Send + Sync {
    /// Returns where it lies.
    fn place(&self) -> Place<'_>;

    /// Returns the K classes by label; none for a task without classes.
    fn class_names(&self) -> &[String];

    /// Tells whether a split holds any examples.
    fn has(&self, split: Split) -> bool;

    /// Returns what its user should know.
    fn warnings(&self) -> Vec<String>;
}

/// How good the guesses of a split are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measures {
    /// Share of right answers, 0 to 1.
    pub accuracy: Option<f32>,
    /// The same for each class that has examples, by its distinct name.
    pub per_class: BTreeMap<String, f32>,
}
