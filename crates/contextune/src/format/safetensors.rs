//! `prompt.safetensors`: the learned tensors, what they were learned for, and the text features they give.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::SafeTensors;
use serde_json::{Map, Value};

use crate::data::{self, DataError, NamedTensor, TensorValues};
use crate::files::finite_values;
use crate::parameters::{ParameterError, Parameters, TensorFileError, read_bounded};

/// Name of the stored class features.
pub(crate) const TEXT_FEATURES: &str = "text_features";
/// Entries of the metadata that are no settings of the method.
const FORMAT_VERSION: &str = "format_version";
const METHOD: &str = "method";
const FINGERPRINT: &str = "fingerprint";
const CLASS_NAMES: &str = "classnames";
/// Names that a method's settings cannot have: files keep their own entries under them.
pub(crate) const RESERVED: [&str; 5] = ["name", METHOD, FORMAT_VERSION, FINGERPRINT, CLASS_NAMES];
/// What this version writes, and the newest that it reads. Files of 0.1.0 say nothing, which means 0.
pub const PROMPT_FORMAT: u32 = 1;

/// A learned prompt with all that is needed to use it.
#[derive(Clone, Debug)]
pub struct PromptFile {
    /// The method that learned it.
    pub method: MethodRecord,
    /// Fingerprint of the model it was learned with.
    pub fingerprint: String,
    /// The classes, in the order of the rows of `text_features`.
    pub class_names: Vec<String>,
    /// The learned tensors under the official names, f32.
    pub parameters: Parameters,
    /// Features of the class prompts, `[K, D]` in row-major order, not of unit length; with them, using the prompt
    /// needs no text tower.
    pub text_features: Option<Vec<f32>>,
}

/// A method as files keep it: its name, and its settings by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MethodRecord {
    /// As in the registry.
    pub name: String,
    /// All that is needed to use what it learned.
    pub settings: Map<String, Value>,
}

/// What is wrong with a prompt file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptFileError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] TensorFileError),
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] DataError),
    /// A tensor that is to be written cannot be read.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    /// The file is there but not a prompt.
    #[error("{} is not a usable prompt file: {problem}", path.display())]
    NotAPrompt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A newer version of this program wrote the file.
    #[error(
        "{} was written by a newer version of this program (format {found}, this one reads up to {PROMPT_FORMAT}): update it",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: String,
    },
}

impl MethodRecord {
    /// Returns the settings as metadata hold them: everything as JSON, except that a text which could not be taken for JSON
    /// stands there as it is.
    fn to_metadata(&self) -> BTreeMap<String, String> {
        let settings = self.settings.iter().map(|(key, value)| {
            let text = match value {
                Value::String(text) if serde_json::from_str::<Value>(text).is_err() => text.clone(),
                value => value.to_string(),
            };
            (key.clone(), text)
        });
        let mut metadata: BTreeMap<String, String> = settings.collect();
        metadata.insert(METHOD.to_owned(), self.name.clone());
        metadata
    }

    /// Takes the method out of metadata; entries that are none of its settings do not matter.
    fn from_metadata(name: String, metadata: HashMap<String, String>) -> Self {
        let settings = metadata.into_iter().map(|(key, text)| {
            let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
            (key, value)
        });
        Self {
            name,
            settings: settings.collect(),
        }
    }
}

impl PromptFile {
    /// Writes the file; a kill leaves the old one or the new one.
    ///
    /// # Errors
    /// Parameters that cannot be read, a file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), PromptFileError> {
        let mut values: Vec<(&str, Vec<usize>, Vec<f32>)> = Vec::new();
        for name in self.parameters.names() {
            let shape = self.parameters.require_any(name)?.to_vec();
            values.push((name, shape, self.parameters.data(name)?));
        }
        if let Some(features) = &self.text_features {
            let classes = self.class_names.len();
            let shape = vec![classes, features.len() / classes.max(1)];
            values.push((TEXT_FEATURES, shape, features.clone()));
        }
        let tensors: Vec<NamedTensor<'_>> = values
            .iter()
            .map(|(name, shape, values)| NamedTensor {
                name,
                shape,
                values: TensorValues::F32(values),
            })
            .collect();
        let class_names = serde_json::to_string(&self.class_names).map_err(|error| {
            PromptFileError::NotAPrompt {
                path: path.into(),
                problem: error.to_string(),
            }
        })?;
        let mut metadata = self.method.to_metadata();
        metadata.insert(FORMAT_VERSION.into(), PROMPT_FORMAT.to_string());
        metadata.insert(FINGERPRINT.into(), self.fingerprint.clone());
        metadata.insert(CLASS_NAMES.into(), class_names);
        Ok(data::write_tensors(path, &tensors, &metadata)?)
    }

    /// Returns the stored class features, `[K, D]`, if there are any.
    pub fn stored_features(&self, device: &Device) -> Option<Tensor<2>> {
        let features = self.text_features.clone()?;
        let shape = [self.class_names.len(), self.feature_width()?];
        Some(Tensor::from_data(TensorData::new(features, shape), device))
    }

    /// Returns the width D of the stored class features, if there are any.
    pub fn feature_width(&self) -> Option<usize> {
        let features = self.text_features.as_ref()?;
        Some(features.len() / self.class_names.len().max(1))
    }

    /// Reads a file that [`PromptFile::write`] or another tool wrote.
    ///
    /// # Errors
    /// A file that cannot be read, is of a newer format, or lacks what a prompt file has; a tensor that is not of finite 32-bit
    /// floats.
    pub fn read(path: &Path, device: &Device) -> Result<Self, PromptFileError> {
        let wrong = |problem: String| PromptFileError::NotAPrompt {
            path: path.into(),
            problem,
        };
        let bytes = read_bounded(path)?;
        let (_, header) =
            SafeTensors::read_metadata(&bytes).map_err(|error| wrong(error.to_string()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| wrong(error.to_string()))?;
        let mut metadata = header.metadata().clone().unwrap_or_default();
        if let Some(found) = metadata.remove(FORMAT_VERSION)
            && !found
                .parse::<u32>()
                .is_ok_and(|version| version <= PROMPT_FORMAT)
        {
            return Err(PromptFileError::Newer {
                path: path.into(),
                found,
            });
        }
        let mut take = |name: &str| {
            metadata
                .remove(name)
                .ok_or_else(|| wrong(format!("its metadata lacks {name}")))
        };
        let fingerprint = take(FINGERPRINT)?;
        let class_names: Vec<String> = serde_json::from_str(&take(CLASS_NAMES)?)
            .map_err(|error| wrong(format!("its class names are no JSON list: {error}")))?;
        let method = take(METHOD)?;

        let mut parameters = Parameters::default();
        let mut text_features = None;
        for (name, view) in file.iter() {
            let values = finite_values(name, &view).map_err(wrong)?;
            if name == TEXT_FEATURES {
                if view.shape().len() != 2 || view.shape()[0] != class_names.len() {
                    return Err(wrong(format!(
                        "{TEXT_FEATURES} has shape {:?} for {} classes",
                        view.shape(),
                        class_names.len()
                    )));
                }
                text_features = Some(values);
            } else {
                parameters.insert_data(name, view.shape(), values, device);
            }
        }
        Ok(Self {
            method: MethodRecord::from_metadata(method, metadata),
            fingerprint,
            class_names,
            parameters,
            text_features,
        })
    }
}
