//! Architectures from the shapes of tensors.

use std::path::Path;

use super::error::{Error, Result};
use super::tensor::TensorTable;

/// The tensors of a file, to ask for their shapes.
pub(super) struct Shapes<'a> {
    pub(super) path: &'a Path,
    pub(super) tensors: &'a TensorTable,
}

impl Shapes<'_> {
    /// Returns the shape of a tensor that must have `N` axes.
    pub(super) fn of<const N: usize>(&self, name: &str) -> Result<[usize; N]> {
        let tensor = self.tensors.get(name).ok_or_else(|| Error::MissingTensor {
            path: self.path.to_owned(),
            name: name.to_owned(),
        })?;
        tensor.shape().try_into().map_err(|_| {
            Error::config(
                self.path,
                format!(
                    "the tensor {name} has shape {:?} where one with {N} axes is expected",
                    tensor.shape()
                ),
            )
        })
    }

    /// Returns one more than the largest number that follows `prefix` in a name.
    pub(super) fn count(&self, prefix: &str) -> usize {
        self.tensors
            .range(prefix.to_owned()..)
            .map_while(|(name, _)| name.strip_prefix(prefix))
            .filter_map(|rest| rest.split('.').next()?.parse::<usize>().ok())
            .max()
            .map_or(0, |last| last.saturating_add(1))
    }

    /// Returns the side of the square grid that, with one more position, makes `positions`.
    pub(super) fn side(&self, name: &str, positions: usize) -> Result<usize> {
        let cells = positions.saturating_sub(1);
        let side = cells.isqrt();
        if side == 0 || side * side != cells {
            return Err(Error::config(
                self.path,
                format!("{name} has {positions} rows, which is not one more than a square"),
            ));
        }
        Ok(side)
    }

    pub(super) fn heads(&self, tower: &str, width: usize) -> Result<usize> {
        if width == 0 || !width.is_multiple_of(64) {
            return Err(Error::config(
                self.path,
                format!(
                    "the {tower} tower is {width} wide, which is not a multiple of 64, so the number of its attention \
                     heads is not known; a configuration is needed"
                ),
            ));
        }
        Ok(width / 64)
    }
}
