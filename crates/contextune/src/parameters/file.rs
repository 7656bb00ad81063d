//! Tensors in safetensors files of bounded size.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

use crate::files::finite_values;

/// A prompt is a few kilobytes, its text features a few megabytes at most.
const LARGEST_FILE: u64 = 1 << 30;

/// Why no tensor can be taken from a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorFileError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file does not hold what is needed.
    #[error("{} cannot be used: {problem}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// Reads a file of at most 1 GiB into memory.
///
/// # Errors
/// A file that cannot be read or is larger.
pub(crate) fn read_bounded(path: &Path) -> Result<Vec<u8>, TensorFileError> {
    let io = |source| TensorFileError::Io {
        path: path.into(),
        source,
    };
    let length = fs::metadata(path).map_err(io)?.len();
    match length <= LARGEST_FILE {
        true => fs::read(path).map_err(io),
        false => Err(TensorFileError::Unusable {
            path: path.into(),
            problem: format!("{length} bytes are too many for a prompt"),
        }),
    }
}

/// Reads one tensor of a safetensors file of 32-bit floats: its elements in row-major order and its shape.
///
/// # Errors
/// A file that cannot be read, lacks the tensor, or holds it in another type or with elements that are not finite.
pub fn read_tensor(path: &Path, name: &str) -> Result<(Vec<f32>, Vec<usize>), TensorFileError> {
    let bytes = read_bounded(path)?;
    let unusable = |problem: String| TensorFileError::Unusable {
        path: path.into(),
        problem,
    };
    let file = SafeTensors::deserialize(&bytes).map_err(|error| unusable(error.to_string()))?;
    let view = file
        .tensor(name)
        .map_err(|_| unusable(format!("it has no tensor {name}")))?;
    let values = finite_values(name, &view).map_err(unusable)?;
    Ok((values, view.shape().to_vec()))
}
