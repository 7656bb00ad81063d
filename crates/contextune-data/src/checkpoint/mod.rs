//! Pretrained models on disk: one file per format, one answer for all of them.
//!
//! [`open`] recognises a file or folder by its content and returns a [`Checkpoint`]: the architecture, and the weights
//! under OpenAI's names, mapped and not read yet. `hub::fetch` (feature `hub`) downloads a model of the Hugging Face hub
//! first. A pickle is parsed, never executed ([`crate::pickle`]).

use std::collections::BTreeMap;
use std::path::Path;

mod container;
mod efficientnet_lite;
mod error;
mod folder;
#[cfg(feature = "hub")]
pub mod hub;
mod hub_id;
#[cfg(feature = "hub")]
mod hub_options;
mod hugging_face;
mod hugging_face_preprocessor;
mod hugging_face_vit;
mod jax_npz;
mod open_clip;
mod openai;
mod opened;
mod parameters;
mod recognize;
mod safetensors;
mod shapes;
mod table;
mod tensor;
mod torch_archive;
mod torch_writer;
mod weights;
mod wrappers;
mod zip;

pub use error::{Error, Result};
pub use hub_id::{FetchProgress, is_id as is_hub_id};
pub use opened::{Checkpoint, Format, Normalization, OpenOptions};
pub use parameters::check_config;
pub use safetensors::{Precision, write};
pub use table::tensors_of;
pub use tensor::{ElementType, StoredTensor, TensorTable};
pub use torch_archive::TorchArchive;
pub use torch_writer::TorchWriter;
pub use weights::Weights;

use container::{Container, container};
use safetensors::CONFIG_KEY;

/// Opens a model: a file, or the folder of a Hugging Face or OpenCLIP model.
///
/// The content decides, never the name. Weights are only located; [`Weights::read`] reads them.
///
/// # Errors
/// See [`Error`]: a file of another kind or family says what it is, an incomplete one what is missing.
/// [`Error::HubUnavailable`] where `path` does not exist but could be a hub id, and this build cannot download.
pub fn open(path: &Path, options: OpenOptions) -> Result<Checkpoint> {
    #[cfg(not(feature = "hub"))]
    hub_id::refuse(path)?;
    if path.metadata().map_err(Error::io(path))?.is_dir() {
        return open_folder(path, options);
    }
    let file = tensor::Bytes::map(path)?;
    let (format, tensors, metadata) = match container(&file)? {
        Container::Safetensors => {
            let safetensors::Contents { tensors, metadata } = safetensors::read(&file)?;
            if metadata.contains_key(CONFIG_KEY) {
                return openai::open(path, Format::Safetensors, tensors, &metadata, options);
            }
            (Format::Safetensors, tensors, metadata)
        }
        Container::Npz => return jax_npz::open(&file),
        Container::Torch => {
            let archive = TorchArchive::from_bytes(file)?;
            let format = if archive.is_script_module() {
                Format::TorchScript
            } else {
                Format::OpenClip
            };
            (format, archive.tensors()?, BTreeMap::new())
        }
    };
    let (tensors, is_wrapped) = wrappers::unwrapped(path, tensors)?;
    // OpenAI's and this library's own files have no wrapper.
    let format = match is_wrapped || open_clip::has_text_wrapper(&tensors) {
        true => Format::OpenClip,
        false => format,
    };
    if efficientnet_lite::is_one(&tensors) {
        return efficientnet_lite::open(path, tensors, options);
    }
    recognize::refuse_other_families(path, &tensors)?;

    // Weights without their configuration leave the activation open: the one beside them is part of the model.
    let beside = |name: &str| Some(path.parent()?).filter(|folder| folder.join(name).is_file());
    if recognize::has_hugging_face_names(&tensors) {
        return match beside("config.json") {
            Some(folder) => hugging_face::open(folder, tensors, options),
            None => Err(Error::not_a_checkpoint(
                path,
                "the weights of a Hugging Face model without their configuration",
                "put config.json beside them, or pass the whole folder",
            )),
        };
    }
    if format != Format::TorchScript
        && let Some(folder) = beside(open_clip::CONFIG_FILE)
    {
        return open_clip::open(folder, path, tensors, options);
    }
    if format == Format::OpenClip {
        open_clip::open_without_config(path, tensors, options)
    } else {
        openai::open(path, format, tensors, &metadata, options)
    }
}

/// Opens a model compiled into the program: the bytes of a file that [`write()`] wrote.
///
/// # Errors
/// As [`open`].
pub fn open_embedded(bytes: &'static [u8]) -> Result<Checkpoint> {
    let file = tensor::Bytes::embedded(bytes);
    let safetensors::Contents { tensors, metadata } = safetensors::read(&file)?;
    openai::open(
        &file.path,
        Format::Safetensors,
        tensors,
        &metadata,
        OpenOptions::default(),
    )
}

fn open_folder(folder: &Path, options: OpenOptions) -> Result<Checkpoint> {
    let has = |name: &str| folder.join(name).is_file();
    let hugging_face = has("config.json");
    let open_clip = has(open_clip::CONFIG_FILE);
    // The hub's OpenCLIP repositories have both configurations, and not always both kinds of weights.
    if hugging_face && (!open_clip || hugging_face::WEIGHT_FILES.iter().any(|name| has(name))) {
        hugging_face::open_folder(folder, options)
    } else if open_clip {
        open_clip::open_folder(folder, options)
    } else {
        Err(Error::not_a_checkpoint(
            folder,
            "a folder without config.json or open_clip_config.json",
            "pass the folder of a Hugging Face or OpenCLIP model, or the weight file itself",
        ))
    }
}
