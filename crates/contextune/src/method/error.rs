//! Why a method cannot begin or be used.

use std::fmt;

use crate::backbone::BackboneError;
use crate::input::InputError;
use crate::model::ModelError;
use crate::objective::label_map::LabelMapError;
use crate::parameters::{ParameterError, TensorFileError};
use crate::task::PromptError;
use crate::text::TextError;

/// A setting that cannot be used as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError {
    /// The setting's name, in kebab case: `batch-size`.
    pub setting: &'static str,
    /// What is wrong with it and what to do, as the rest of a sentence that begins with its name: `is 0; 1 is the least`.
    pub problem: String,
}

impl SettingError {
    /// A `setting` and what is wrong with it.
    pub fn new(setting: &'static str, problem: impl Into<String>) -> Self {
        Self {
            setting,
            problem: problem.into(),
        }
    }

    /// Refuses a factor that is no finite number from 0 on.
    pub(crate) fn check_factor(setting: &'static str, factor: f32) -> Result<(), Self> {
        match factor.is_finite() && factor >= 0.0 {
            true => Ok(()),
            false => Err(Self::new(
                setting,
                format!("is {factor}; a number from 0 on is needed"),
            )),
        }
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.setting, self.problem)
    }
}

impl std::error::Error for SettingError {}

/// Why a method cannot begin or be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MethodError {
    /// The model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A class name gives no valid prompt.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A prompt does not fit the tower.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// A file to begin from cannot be read.
    #[error(transparent)]
    File(#[from] TensorFileError),
    /// A tensor to begin from that does not fit.
    #[error("{name} in {} has shape {found:?}; this model, these classes and this layout need {expected:?}", path.display())]
    InitialShape {
        /// The file.
        path: std::path::PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// What is needed.
        expected: Vec<usize>,
    },
    /// A file to begin from that lacks a tensor.
    #[error("{} has no tensor {name}: it holds the weights of something else", path.display())]
    InitialMissing {
        /// The file.
        path: std::path::PathBuf,
        /// The tensor.
        name: String,
    },
    /// A file of weights to begin from cannot be read.
    #[error(transparent)]
    Weights(#[from] crate::checkpoint::Error),
    /// A number of words other than the context has vectors.
    #[error(
        "the words {words:?} are {found} vectors long, the context {expected}: leave one of them out"
    )]
    InitialWords {
        /// The words.
        words: String,
        /// Their vectors.
        found: usize,
        /// The context's.
        expected: usize,
    },
    /// A method that is not known, or whose settings are damaged.
    #[error("the method {method} cannot be used here: {problem}")]
    UnknownMethod {
        /// The method.
        method: String,
        /// What is wrong.
        problem: String,
    },
    /// Settings that cannot be kept in a file.
    #[error("the settings of {method} cannot be written: {problem}")]
    Unwritable {
        /// The method.
        method: String,
        /// What is wrong.
        problem: String,
    },
    /// What was learned says nothing of other classes.
    #[error(
        "what {method} learned holds for the classes it was learned for and no others: use it on data with the same classes, or learn a context that all classes share (coop, cocoop, kgcoop or prograd, not class-specific)"
    )]
    OtherClasses {
        /// The method.
        method: String,
    },
    /// Prompts that stand in a vision transformer, for another image tower.
    #[error(
        "visual prompts stand between the tokens of a vision transformer, and this model's image tower is none: use a ViT model, or pixel prompts"
    )]
    NeedsVisionTransformer,
    /// A setting that does not fit the others or the model.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The prompt makes nothing of its inputs.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The learned tensors do not fit.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    /// The inputs cannot be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Nothing to choose between.
    #[error("there are no classes to choose between: name them")]
    NoClasses,
    /// What was learned is for another task.
    #[error("{method} learns to {found}, and {needed} is what is asked for here")]
    OtherTask {
        /// The method.
        method: String,
        /// Its task.
        found: &'static str,
        /// The task that is needed.
        needed: &'static str,
    },
    /// Classes that cannot be mapped to the model's labels.
    #[error(transparent)]
    Labels(#[from] LabelMapError),
    /// The optimiser of a closed problem failed.
    #[error("the linear probe could not be fitted: {0}")]
    Solver(String),
}
