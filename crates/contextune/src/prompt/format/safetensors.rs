//! `prompt.safetensors`: the learned tensors, what they were learned for, and the text features they give.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::SafeTensors;

use crate::data::{self, DataError, NamedTensor, TensorValues};
use crate::files::finite_values;
use crate::prompt::Method;
use crate::train::Parameters;

/// Name of the stored class features.
const TEXT_FEATURES: &str = "text_features";
/// A prompt is a few kilobytes, its text features a few megabytes at most.
const LARGEST_FILE: u64 = 1 << 30;

/// A learned prompt with all that is needed to use it.
#[derive(Clone, Debug)]
pub struct PromptFile {
    /// The method, with all that is needed to use it.
    pub method: Method,
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

/// What is wrong with a prompt file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptFileError {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] DataError),
    /// The file is there but not a prompt.
    #[error("{} is not a usable prompt file: {problem}", path.display())]
    NotAPrompt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl PromptFile {
    /// Writes the file; a kill leaves the old one or the new one.
    pub fn write(&self, path: &Path) -> Result<(), PromptFileError> {
        let names: Vec<&str> = self.parameters.names().collect();
        let mut values: Vec<(&str, Vec<usize>, Vec<f32>)> = names
            .into_iter()
            .map(|name| {
                let shape = self.parameters.shape(name).unwrap_or_default().to_vec();
                let values = self.parameters.data(name).unwrap_or_default();
                (name, shape, values)
            })
            .collect();
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
        let mut metadata: BTreeMap<String, String> =
            self.method.to_metadata().into_iter().collect();
        metadata.insert("fingerprint".into(), self.fingerprint.clone());
        let class_names = serde_json::to_string(&self.class_names).map_err(|error| {
            PromptFileError::NotAPrompt {
                path: path.into(),
                problem: error.to_string(),
            }
        })?;
        metadata.insert("classnames".into(), class_names);
        Ok(data::write_tensors(path, &tensors, &metadata)?)
    }

    /// The stored class features, `[K, D]`, if there are any.
    pub fn stored_features(&self, device: &Device) -> Option<Tensor<2>> {
        let features = self.text_features.clone()?;
        let shape = [
            self.class_names.len(),
            features.len() / self.class_names.len().max(1),
        ];
        Some(Tensor::from_data(TensorData::new(features, shape), device))
    }

    /// One tensor of a safetensors file of 32-bit floats: its elements in row-major order and its shape.
    pub fn read_tensor(path: &Path, name: &str) -> Result<(Vec<f32>, Vec<usize>), PromptFileError> {
        let bytes = read_bounded(path)?;
        let wrong = |problem: String| PromptFileError::NotAPrompt {
            path: path.into(),
            problem,
        };
        let file = SafeTensors::deserialize(&bytes).map_err(|error| wrong(error.to_string()))?;
        let view = file
            .tensor(name)
            .map_err(|_| wrong(format!("it has no tensor {name}")))?;
        let values = finite_values(name, &view).map_err(wrong)?;
        Ok((values, view.shape().to_vec()))
    }

    /// Reads a file that [`PromptFile::write`] or another tool wrote.
    pub fn read(path: &Path, device: &Device) -> Result<Self, PromptFileError> {
        let wrong = |problem: String| PromptFileError::NotAPrompt {
            path: path.into(),
            problem,
        };
        let bytes = read_bounded(path)?;
        let (_, header) =
            SafeTensors::read_metadata(&bytes).map_err(|error| wrong(error.to_string()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| wrong(error.to_string()))?;
        let mut settings = header.metadata().clone().unwrap_or_default();
        let mut take = |name: &str| {
            settings
                .remove(name)
                .ok_or_else(|| wrong(format!("its metadata lacks {name}")))
        };
        let fingerprint = take("fingerprint")?;
        let class_names: Vec<String> = serde_json::from_str(&take("classnames")?)
            .map_err(|error| wrong(format!("its class names are no JSON list: {error}")))?;
        let method = Method::from_metadata(&settings).map_err(|error| wrong(error.to_string()))?;

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
            method,
            fingerprint,
            class_names,
            parameters,
            text_features,
        })
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, PromptFileError> {
    let io = |source| PromptFileError::Io {
        path: path.into(),
        source,
    };
    let length = fs::metadata(path).map_err(io)?.len();
    match length <= LARGEST_FILE {
        true => fs::read(path).map_err(io),
        false => Err(PromptFileError::NotAPrompt {
            path: path.into(),
            problem: format!("{length} bytes are too many for a prompt"),
        }),
    }
}
