//! An opened model, and what its user decides about it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::weights::Weights;
use crate::architecture::{Activation, ModelConfig};
use crate::image::Preprocess;

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
    /// How a picture becomes the square that the image tower takes.
    pub preprocess: Preprocess,
    /// What the image tower expects of its pixels.
    pub normalization: Normalization,
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

    /// Refuses values by which pixels cannot be normalised; `path` is where they were read.
    pub(super) fn check(&self, path: &Path) -> Result<()> {
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
