//! The one loop, its optimizers and its schedules.

mod fit;
mod optimizer;
mod schedule;

pub use fit::{
    EpochMetrics, FitSettings, Observer, Problem, StateError, Step, StepOutcome, TrainingState, fit,
};
pub use optimizer::{Optimizer, OptimizerState};
pub use schedule::{Progress, Schedule};

use crate::parameters::ParameterError;

/// What can go wrong in the loop itself; what goes wrong in a step is the [`Problem`]'s own error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The loss became infinite or not a number.
    #[error(
        "the loss is no longer a finite number (epoch {epoch}, step {step}): try a lower learning rate"
    )]
    LossNotFinite {
        /// Epoch, from one.
        epoch: usize,
        /// Step in the epoch, from one.
        step: usize,
    },
    /// The parameters cannot be read.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    /// What an observer could not do, such as writing a file.
    #[error(transparent)]
    Observer(Box<dyn std::error::Error + Send + Sync>),
}
