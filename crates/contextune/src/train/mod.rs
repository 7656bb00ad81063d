//! The one loop, its optimizers and its schedules.

mod fit;
mod initial;
mod optimizer;
mod parameters;
mod schedule;

pub use fit::{EpochMetrics, FitSettings, Observer, Step, StepOutcome, Task, TrainingState, fit};
pub use initial::{Initial, dropout};
pub use optimizer::{Optimizer, OptimizerState};
pub use parameters::{Collector, Parameters};
pub use schedule::{Progress, Schedule};

/// What can go wrong while training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A parameter that the model needs and the training state lacks.
    #[error("the parameter {name} is missing")]
    MissingParameter {
        /// Its name.
        name: String,
    },
    /// A parameter of another shape than the model needs.
    #[error("the parameter {name} has shape {found:?}, needed is {expected}")]
    ParameterShape {
        /// Its name.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// What the model needs.
        expected: String,
    },
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
    /// The task's prompts do not fit the model.
    #[error(transparent)]
    Backbone(#[from] crate::backbone::BackboneError),
    /// A caption that the tokenizer refuses.
    #[error(transparent)]
    Text(#[from] crate::text::TextError),
    /// A picture that could be read before and cannot be any more.
    #[error(transparent)]
    Picture(#[from] crate::image::ImageError),
    /// What an observer could not do, such as writing a file.
    #[error(transparent)]
    Observer(Box<dyn std::error::Error + Send + Sync>),
}
