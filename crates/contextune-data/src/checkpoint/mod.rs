//! Pretrained models on disk: one file per format, one answer for all of them.
//!
//! [`open`] recognises a file or folder by its content and returns a [`Checkpoint`]: the architecture, and the weights
//! under OpenAI's names, mapped and not read yet. `hub::fetch` (feature `hub`) downloads a model of the Hugging Face hub
//! first. A pickle is parsed, never executed ([`crate::pickle`]).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::architecture::{Activation, ModelConfig};

mod efficientnet_lite;
mod error;
#[cfg(feature = "hub")]
pub mod hub;
mod hub_id;
mod hugging_face;
mod hugging_face_vit;
mod jax_npz;
mod open_clip;
mod openai;
mod parameters;
mod recognize;
mod safetensors;
mod shapes;
mod tensor;
mod torch_archive;
mod torch_writer;
mod weights;

pub use error::{Error, Result};
pub use parameters::check_config;
pub use safetensors::{Precision, write};
pub use tensor::{ElementType, StoredTensor, TensorTable};
pub use torch_archive::TorchArchive;
pub use torch_writer::TorchWriter;
pub use weights::Weights;

/// Metadata of files that this library writes: the [`ModelConfig`] and the [`Normalization`] as JSON.
const CONFIG_KEY: &str = "clip_config";
const NORMALIZATION_KEY: &str = "normalization";

/// An opened model.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// How it was stored.
    pub format: Format,
    /// The architecture.
    pub config: ModelConfig,
    /// The weights, read on demand.
    pub weights: Weights,
    /// A `tokenizer.json` beside the weights; it wins over CLIP's own list of merges.
    pub tokenizer_file: Option<PathBuf>,
    /// What the image tower expects of pixels.
    pub normalization: Normalization,
    /// What the shorter side of a picture is resized to before the middle is cut out; absent: the side of the input.
    pub shorter_side: Option<usize>,
    /// What was assumed, for the user to read.
    pub warnings: Vec<String>,
}

/// How a model is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// A safetensors file under OpenAI's names, such as this library writes.
    Safetensors,
    /// OpenAI's TorchScript archive.
    TorchScript,
    /// A folder of Hugging Face's `CLIPModel`.
    HuggingFace,
    /// EfficientNet-Lite under the names of its PyTorch port.
    EfficientNetLite,
    /// An archive of NumPy arrays as google-research/vision_transformer publishes them.
    JaxNpz,
    /// A training checkpoint or folder of OpenCLIP, or a saved `state_dict`.
    OpenClip,
}

/// Mean and standard deviation of each colour channel, red, green, blue, for pixels in `[0, 1]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// Subtracted.
    pub mean: [f32; 3],
    /// Divided by, after that.
    pub std: [f32; 3],
}

impl Normalization {
    /// What OpenAI's models were trained with (openai/CLIP, `clip.py`).
    pub const OPENAI: Self = Self {
        mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
        std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
    };

    /// The usual one of models that were pretrained on ImageNet with PyTorch (torchvision).
    pub const IMAGENET: Self = Self {
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    };
    /// Pixels in `[-1, 1]`, as google-research/vision_transformer trains.
    pub const HALF: Self = Self {
        mean: [0.5; 3],
        std: [0.5; 3],
    };

    fn check(&self, path: &Path) -> Result<()> {
        let usable = self.mean.iter().all(|mean| mean.is_finite())
            && self.std.iter().all(|std| std.is_finite() && *std > 0.0);
        if usable {
            Ok(())
        } else {
            Err(Error::config(
                path,
                format!("pixels cannot be normalised by {self:?}"),
            ))
        }
    }
}

/// What the user decides about a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// The activation, whatever the file says or leaves open.
    pub activation: Option<Activation>,
}

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
    let (format, tensors, metadata) = match recognize::container(&file)? {
        recognize::Container::Safetensors => {
            let safetensors::Contents { tensors, metadata } = safetensors::read(&file)?;
            if metadata.contains_key(CONFIG_KEY) {
                return openai::open(path, Format::Safetensors, tensors, &metadata, options);
            }
            let format = if open_clip::has_wrapped_names(&tensors) {
                Format::OpenClip
            } else {
                Format::Safetensors
            };
            (format, tensors, metadata)
        }
        recognize::Container::Npz => return jax_npz::open(&file),
        recognize::Container::Torch => {
            let archive = TorchArchive::from_bytes(file)?;
            let format = if archive.is_script_module() {
                Format::TorchScript
            } else {
                Format::OpenClip
            };
            (format, archive.tensors()?, BTreeMap::new())
        }
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

/// The tensors of a safetensors or PyTorch file under their own names, whatever network they belong to.
///
/// # Errors
/// A file of another kind, or a damaged one.
pub fn tensors_of(path: &Path) -> Result<TensorTable> {
    let file = tensor::Bytes::map(path)?;
    match recognize::container(&file)? {
        recognize::Container::Safetensors => Ok(safetensors::read(&file)?.tensors),
        recognize::Container::Torch => TorchArchive::from_bytes(file)?.tensors(),
        recognize::Container::Npz => Err(Error::not_a_checkpoint(
            path,
            "an archive of NumPy arrays",
            "a safetensors or PyTorch file is expected here",
        )),
    }
}

/// A file of a folder, if it is there.
fn existing_file(folder: &Path, name: &str) -> Option<PathBuf> {
    Some(folder.join(name)).filter(|path| path.is_file())
}

/// Reads a JSON file of at most 16 MB, far more than any configuration or index has.
fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    const LIMIT: u64 = 16 << 20;
    let file = File::open(path).map_err(Error::io(path))?;
    let mut text = String::new();
    file.take(LIMIT)
        .read_to_string(&mut text)
        .map_err(Error::io(path))?;
    serde_json::from_str(&text)
        .map_err(|error| Error::config(path, format!("not the JSON that is expected: {error}")))
}
