//! A run, looked at: what it learned, what it gets right and wrong and how it came about, as one page that needs nothing else.
//!
//! [`RunReport::gather`] computes what there is to show, [`RunReport::page`] shows it, [`compare()`] shows several, [`sweep()`] what
//! a plan came to; [`contact_sheet_page`] shows a data set before anything is learned.

mod charts;
mod contact_sheet;
mod context;
mod gather;
mod grounds;
mod map;
mod page;
mod pages;
mod pictures;
mod sweep;

pub use charts::Line;
pub use contact_sheet::{ContactSheetError, contact_sheet_page, contact_sheet_png};
pub use context::{LearnedContext, LearnedVector, learned_context};
pub use gather::{Baseline, ClassReport, Example, RunReport};
pub use grounds::Grounds;
pub use map::Map;
pub use page::compare;
pub use pictures::{SIDE as THUMBNAIL_SIDE, png_of_tensor};
pub use sweep::{SweepTable, sweep};

use contextune::data::DataError;
use contextune::image::ImageError;
use contextune::input::InputError;
use contextune::method::MethodError;
use contextune::model::ModelError;
use contextune::parameters::ParameterError;
use contextune::run::{LearnError, RunError};
use contextune::task::{MeasureError, PromptError};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The run folder.
    #[error(transparent)]
    Run(#[from] RunError),
    /// What was learned.
    #[error(transparent)]
    Learned(#[from] LearnError),
    /// The data set.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The pictures.
    #[error(transparent)]
    Inputs(#[from] InputError),
    /// A single picture.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The method.
    #[error(transparent)]
    Method(#[from] MethodError),
    /// The prompt.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The tensors of the prompt.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    /// The run cannot be measured again.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// A task that there is no page for.
    #[error("there is no page for runs that {task}")]
    NoPage {
        /// The task.
        task: &'static str,
    },
    /// The run is not finished.
    #[error("{} is not finished, so there is no result to show: resume it first", path.display())]
    Unfinished {
        /// Its folder.
        path: std::path::PathBuf,
    },
}
