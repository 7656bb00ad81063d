//! What can go wrong with a run.

use std::path::PathBuf;

use super::folder::RunError;
use crate::data::DataError;
use crate::format::PromptFileError;
use crate::input::InputError;
use crate::method::MethodError;
use crate::model::ModelError;
use crate::task::{MeasureError, PromptError};
use crate::train::TrainError;

/// Why a run has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LearnError {
    /// The watcher ended it; the folder holds what is needed to go on.
    #[error("stopped after epoch {epochs_done} of {epochs}; {} can be resumed", run.display())]
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
        "a step with {examples} examples needs about {:.1} GB, and {:.1} GB are free: use a smaller batch size or a shorter prompt",
        *needed as f64 / 1e9, *there as f64 / 1e9
    )]
    TooLarge {
        /// Examples in a step.
        examples: usize,
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that are free.
        there: u64,
    },
    /// There is nothing to learn from.
    #[error("there is nothing to learn from: {0}")]
    NoTraining(InputError),
    /// The data set of another task.
    #[error("{} is no data set to {task} with", path.display())]
    OtherDataset {
        /// The data set.
        path: PathBuf,
        /// What the method learns.
        task: &'static str,
    },
    /// The prompt cannot be measured.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// The run folder.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The data set.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The inputs.
    #[error(transparent)]
    Inputs(#[from] InputError),
    /// The method.
    #[error(transparent)]
    Method(#[from] MethodError),
    /// The training.
    #[error(transparent)]
    Training(#[from] PromptError),
    /// The prompt file.
    #[error(transparent)]
    Prompt(#[from] PromptFileError),
}

impl LearnError {
    /// Tells whether learning failed because its loss was no finite number any more: another learning rate may succeed.
    pub fn is_divergence(&self) -> bool {
        matches!(
            self,
            Self::Training(PromptError::Train(TrainError::LossNotFinite { .. }))
        )
    }
}
