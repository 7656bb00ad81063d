//! A checkpoint made ready to run: towers, tokenizer and preparation of pictures that belong together.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Tensor, TensorData};

use crate::architecture::{Activation, ModelConfig, TextTowerConfig};
use crate::backbone::{Clip, ImageTower, PixelNormalisation, TextTower};
#[cfg(feature = "hub")]
use crate::checkpoint::hub;
use crate::checkpoint::{self, Checkpoint, FetchProgress, Weights, is_hub_id};
use crate::image::Preprocess;
use crate::parameters::{Collector, ParameterSource, Parameters};
use crate::text::{TextError, Tokenizer};

/// The small icon model that is part of this program.
const EMBEDDED: &[u8] = include_bytes!("../../../assets/model/icons.safetensors");

/// What the names of the image tower's parameters begin with.
const IMAGE_TOWER: &str = "visual.";

/// A model whose parts are built when they are asked for.
#[derive(Debug)]
pub struct Model {
    checkpoint: Checkpoint,
    source: String,
    device: Device,
    /// What was built or computed once.
    image_tower: OnceLock<ImageTower>,
    text_tower: OnceLock<TextTower>,
    tokenizer: OnceLock<Arc<Tokenizer>>,
    fingerprint: OnceLock<String>,
}

/// How a model is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct ModelOptions {
    /// The activation, whatever the checkpoint says.
    pub activation: Option<Activation>,
    /// What is subtracted from pixels and what they are divided by, whatever the checkpoint says.
    pub normalization: Option<checkpoint::Normalization>,
}

/// What can go wrong with a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// There is no such file, and the name is no hub id either.
    #[error("{name} is neither a file or folder nor a hub id such as openai/clip-vit-base-patch32")]
    NotFound {
        /// What was asked for.
        name: String,
    },
    /// The hub has no place to keep what it fetches.
    #[error("cannot fetch {name}: there is no home folder to keep it in; set HF_HOME to a folder")]
    NoCache {
        /// The hub id.
        name: String,
    },
    /// A model of pictures alone, where words are needed.
    #[error(
        "{model} has no text tower, so it knows no words: use a CLIP model, or a method that learns a classifier of its own (vpt, finetune)"
    )]
    NoTextTower {
        /// The model.
        model: String,
    },
    /// A model without labels of its own, where they are needed.
    #[error(
        "{model} holds no classifier of its pretraining, so it has no labels: use a model that does, or for a CLIP the words of the classes as its targets"
    )]
    NoClassifier {
        /// The model.
        model: String,
    },
    /// The tokenizer does not fit the text tower.
    #[error("the tokenizer of {model}: {source}")]
    Tokenizer {
        /// The model.
        model: String,
        /// What is wrong with it.
        source: TextError,
    },
    /// The tokenizer has ids that the text tower has no embedding for.
    #[error("the tokenizer of {model} has {tokens} tokens, its text tower only {rows}")]
    TokenizerTooLarge {
        /// The model.
        model: String,
        /// Ids of the tokenizer.
        tokens: usize,
        /// Rows of the embedding table.
        rows: usize,
    },
}

impl Model {
    /// Opens a file or folder, a hub id, or without a name the embedded model.
    pub fn open(
        name: Option<&str>,
        options: ModelOptions,
        device: &Device,
        progress: impl FnMut(FetchProgress<'_>),
    ) -> Result<Self, ModelError> {
        let mut checkpoint = match name {
            None => checkpoint::open_embedded(EMBEDDED)?,
            Some(name) => {
                let path = locate(name, progress)?;
                let options = checkpoint::OpenOptions {
                    activation: options.activation,
                };
                checkpoint::open(&path, options)?
            }
        };
        if let Some(normalization) = options.normalization {
            checkpoint.normalization = normalization;
        }
        Ok(Self {
            checkpoint,
            source: name.unwrap_or("the embedded model").to_owned(),
            device: device.clone(),
            image_tower: OnceLock::new(),
            text_tower: OnceLock::new(),
            tokenizer: OnceLock::new(),
            fingerprint: OnceLock::new(),
        })
    }

    /// The architecture.
    pub fn config(&self) -> &ModelConfig {
        &self.checkpoint.config
    }

    /// The name that it was opened by, or "the embedded model".
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What the checkpoint left open and was assumed.
    pub fn warnings(&self) -> &[String] {
        &self.checkpoint.warnings
    }

    /// The weights under OpenAI's names, read on demand.
    pub fn weights(&self) -> &Weights {
        &self.checkpoint.weights
    }

    /// Where tensors live.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Identifies the weights, equal for one model in every format; reads all of them once.
    pub fn fingerprint(&self) -> Result<String, ModelError> {
        once(&self.fingerprint, || {
            Ok(self.checkpoint.weights.fingerprint()?)
        })
    }

    /// The architecture of the text tower.
    pub fn text_config(&self) -> Result<&TextTowerConfig, ModelError> {
        let text = self.config().text.as_ref();
        text.ok_or_else(|| ModelError::NoTextTower {
            model: self.source.clone(),
        })
    }

    /// Both towers.
    pub fn clip(&self) -> Result<Clip, ModelError> {
        let text = self.text_config()?;
        Ok(Clip::build(&mut self.frozen(), self.config(), text)?)
    }

    /// Every parameter by name, to be trained further.
    pub fn parameters(&self) -> Result<Parameters, ModelError> {
        let mut collector = Collector::new(self.frozen());
        Clip::build(&mut collector, self.config(), self.text_config()?)?;
        Ok(collector.into_parameters())
    }

    /// Every parameter of the image tower by name, to be trained further.
    pub fn image_parameters(&self) -> Result<Parameters, ModelError> {
        let mut collector = Collector::new(self.frozen());
        ImageTower::build(&mut collector, self.config())?;
        Ok(collector.into_parameters())
    }

    /// Lists name and shape of every parameter of the image tower.
    pub fn image_weights(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let weights = self.weights();
        weights
            .names()
            .filter(|name| name.starts_with(IMAGE_TOWER))
            .filter_map(|name| Some((name, weights.shape(name)?)))
    }

    /// The image tower alone.
    pub fn image_tower(&self) -> Result<ImageTower, ModelError> {
        once(&self.image_tower, || {
            Ok(ImageTower::build(&mut self.frozen(), self.config())?)
        })
    }

    /// The text tower alone.
    pub fn text_tower(&self) -> Result<TextTower, ModelError> {
        once(&self.text_tower, || {
            let config = self.config();
            Ok(TextTower::build(
                &mut self.frozen(),
                self.text_config()?,
                config.embedding_width,
                config.activation,
            )?)
        })
    }

    /// The linear layer that the model was pretrained with: weight `[S, D]` and bias `[S]`.
    pub fn pretrained_head(&self) -> Result<(Tensor<2>, Tensor<1>), ModelError> {
        let Some(classes) = self.config().pretrained_classes else {
            return Err(ModelError::NoClassifier {
                model: self.source.clone(),
            });
        };
        let shape = [classes, self.config().embedding_width];
        let mut weights = self.frozen();
        let weight = weights.parameter("head.weight", shape)?;
        Ok((weight, weights.parameter("head.bias", [classes])?))
    }

    /// Natural logarithm of the factor on the cosine, `[1]`.
    pub fn logit_scale(&self) -> Result<Tensor<1>, ModelError> {
        self.text_config()?;
        Ok(self.frozen().parameter("logit_scale", [1])?)
    }

    /// How pictures become squares of this side, whatever the side of the tower's own input.
    pub fn preprocess(&self, side: usize) -> Preprocess {
        self.checkpoint.preprocess.at(side as u32)
    }

    /// What the image tower expects of its pixels.
    pub fn normalisation(&self) -> PixelNormalisation {
        let checkpoint::Normalization { mean, std } = self.checkpoint.normalization;
        PixelNormalisation::new(mean, std, &self.device)
    }

    /// The same as plain numbers, to be written beside weights.
    pub fn normalization_values(&self) -> checkpoint::Normalization {
        self.checkpoint.normalization
    }

    /// The tokenizer: the checkpoint's own, or CLIP's list of merges cut to the size of the vocabulary.
    pub fn tokenizer(&self) -> Result<Arc<Tokenizer>, ModelError> {
        once(&self.tokenizer, || {
            let rows = self.text_config()?.vocabulary_size;
            let tokenizer = match &self.checkpoint.tokenizer_file {
                Some(path) => Tokenizer::from_hugging_face(path),
                None => Tokenizer::clip(rows),
            };
            let tokenizer = tokenizer.map_err(|source| ModelError::Tokenizer {
                model: self.source.clone(),
                source,
            })?;
            match tokenizer.vocabulary_size() <= rows {
                true => Ok(Arc::new(tokenizer)),
                false => Err(ModelError::TokenizerTooLarge {
                    model: self.source.clone(),
                    tokens: tokenizer.vocabulary_size(),
                    rows,
                }),
            }
        })
    }

    fn frozen(&self) -> FrozenWeights<'_> {
        FrozenWeights {
            weights: &self.checkpoint.weights,
            device: &self.device,
        }
    }
}

/// What `cell` holds, made by `make` the first time.
fn once<T: Clone>(
    cell: &OnceLock<T>,
    make: impl FnOnce() -> Result<T, ModelError>,
) -> Result<T, ModelError> {
    match cell.get() {
        Some(value) => Ok(value.clone()),
        None => {
            let value = make()?;
            Ok(cell.get_or_init(|| value).clone())
        }
    }
}

/// Returns whether `name` is a place on disk where there is nothing (any longer), and no hub id either.
pub fn is_missing(name: &str) -> bool {
    !Path::new(name).exists() && !is_hub_id(name)
}

/// A file or folder as it is; a hub id fetched into the hub's cache.
fn locate(name: &str, progress: impl FnMut(FetchProgress<'_>)) -> Result<PathBuf, ModelError> {
    let path = Path::new(name);
    if path.exists() {
        return Ok(path.to_owned());
    }
    if !is_hub_id(name) {
        return Err(ModelError::NotFound { name: name.into() });
    }
    fetched(name, progress)
}

#[cfg(feature = "hub")]
fn fetched(name: &str, progress: impl FnMut(FetchProgress<'_>)) -> Result<PathBuf, ModelError> {
    let options =
        hub::Options::from_env().ok_or_else(|| ModelError::NoCache { name: name.into() })?;
    Ok(hub::fetch(name, &options, progress)?)
}

/// Opening the path says that ids of the hub need the feature.
#[cfg(not(feature = "hub"))]
fn fetched(name: &str, _progress: impl FnMut(FetchProgress<'_>)) -> Result<PathBuf, ModelError> {
    Ok(name.into())
}

/// Weights as constants on a device.
struct FrozenWeights<'a> {
    weights: &'a Weights,
    device: &'a Device,
}

impl ParameterSource for FrozenWeights<'_> {
    type Error = checkpoint::Error;

    fn parameter<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Tensor<D>, checkpoint::Error> {
        // The checkpoint has checked all shapes against the architecture; only [] and [1] differ.
        let values = self.weights.read(name)?;
        Ok(Tensor::from_data(
            TensorData::new(values, shape),
            self.device,
        ))
    }
}
