//! What can go wrong between an example on disk and a batch of inputs.

use std::path::PathBuf;

use crate::image::ImageError;
use crate::model::ModelError;
use crate::parameters::ParameterError;

/// Why there are no inputs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// There are no such examples.
    #[error("{} has no such examples", path.display())]
    NoExamples {
        /// The data set.
        path: PathBuf,
    },
    /// Features where pictures are needed.
    #[error(
        "{} holds features; this method learns from the pictures themselves: give it their folder", path.display()
    )]
    NeedsPictures {
        /// The features file.
        path: PathBuf,
    },
    /// Features of another model.
    #[error(
        "{} holds features of width {found}, the model's are {expected} wide: encode the pictures with this model",
        path.display()
    )]
    Width {
        /// The features file.
        path: PathBuf,
        /// Its width.
        found: usize,
        /// The model's.
        expected: usize,
    },
    /// A batch of another kind than a prompt works on.
    #[error("{needed} are needed, not {found}")]
    OtherKind {
        /// What is needed.
        needed: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// A picture that cannot be read, where every picture must be.
    #[error("every picture has to be readable, and one is not: {0}")]
    Unreadable(ImageError),
    /// Not one picture can be read.
    #[error("no picture could be read; the first is {}: {source}", path.display())]
    NothingReadable {
        /// The first picture.
        path: PathBuf,
        /// What is wrong with it.
        source: ImageError,
    },
    /// A picture that could be read before and cannot be any more.
    #[error(transparent)]
    Picture(#[from] ImageError),
    /// Features that were not computed in 32-bit floats.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
}
