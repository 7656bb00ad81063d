//! The tensors of a whole file, whatever network they belong to.

use std::path::Path;

use super::container::{Container, container};
use super::error::{Error, Result};
use super::safetensors;
use super::tensor::{Bytes, TensorTable};
use super::torch_archive::TorchArchive;

/// Returns the tensors of a safetensors or PyTorch file under their own names, whatever network they belong to.
///
/// # Errors
/// A file of another kind, or a damaged one.
pub fn tensors_of(path: &Path) -> Result<TensorTable> {
    let file = Bytes::map(path)?;
    match container(&file)? {
        Container::Safetensors => Ok(safetensors::read(&file)?.tensors),
        Container::Torch => TorchArchive::from_bytes(file)?.tensors(),
        Container::Npz => Err(Error::not_a_checkpoint(
            path,
            "an archive of NumPy arrays",
            "a safetensors or PyTorch file is expected here",
        )),
    }
}
