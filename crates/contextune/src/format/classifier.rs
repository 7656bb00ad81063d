//! A finished classifier as safetensors: all that is needed beside the image tower.
//!
//! | | | |
//! | --- | --- | --- |
//! | tensor | `classifier` | `[D, K]`, columns of unit length |
//! | tensor | `logit_scale` | `[]`, the logarithm of the factor on the cosine |
//! | metadata | `classnames`, `mean`, `std` | JSON lists: the K classes; what pixels in `[0, 1]` are normalised by |
//! | metadata | `image_size` | side of the square picture in pixels |
//! | metadata | `fingerprint` | of the model that the image features must come from |
//!
//! logits = exp(`logit_scale`) · features of unit length · `classifier`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use crate::data::{DataError, NamedTensor, TensorValues, write_tensors};
use crate::model::{Model, ModelError};

/// Why a classifier cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClassifierError {
    /// Class features that make no classifier of this model.
    #[error("the class features make no classifier: {problem}")]
    ClassFeatures {
        /// What is wrong with them.
        problem: String,
    },
    /// The model cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] DataError),
}

/// Writes the classifier of these classes; the file appears under its name only when complete.
///
/// `class_features` `[K, D]`, row-major, need not be of unit length; `class_names` are the K classes in their order.
///
/// # Errors
/// Features that do not fit the classes or have no direction; what reading and writing bring.
pub fn write(
    path: &Path,
    model: &Model,
    class_features: &[f32],
    class_names: &[String],
) -> Result<(), ClassifierError> {
    let width = model.config().embedding_width;
    let columns = unit_columns(class_features, class_names.len(), width)
        .map_err(|problem| ClassifierError::ClassFeatures { problem })?;
    let scale: f32 = model.logit_scale()?.into_scalar();
    let tensors = [
        NamedTensor {
            name: "classifier",
            shape: &[width, class_names.len()],
            values: TensorValues::F32(&columns),
        },
        NamedTensor {
            name: "logit_scale",
            shape: &[],
            values: TensorValues::F32(&[scale]),
        },
    ];
    let normalization = model.normalization_values();
    let side = model.config().image.image_size();
    let metadata = [
        ("classnames", json!(class_names).to_string()),
        ("fingerprint", model.fingerprint()?),
        ("image_size", side.to_string()),
        ("mean", json!(normalization.mean).to_string()),
        ("preprocess", json!(model.preprocess(side)).to_string()),
        ("std", json!(normalization.std).to_string()),
    ];
    let metadata: BTreeMap<String, String> =
        metadata.map(|(key, value)| (key.to_owned(), value)).into();
    Ok(write_tensors(path, &tensors, &metadata)?)
}

/// Rows `[K, D]` of any length -> columns `[D, K]` of unit length; else what is wrong with the rows.
pub(super) fn unit_columns(
    features: &[f32],
    classes: usize,
    width: usize,
) -> Result<Vec<f32>, String> {
    if classes == 0 || features.len() != classes * width {
        return Err(format!(
            "{} values for {classes} classes and features of width {width}",
            features.len()
        ));
    }
    let mut columns = vec![0.0; features.len()];
    for (class, row) in features.chunks_exact(width).enumerate() {
        let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        if !length.is_normal() {
            return Err(format!("those of class {class} have no direction"));
        }
        for (channel, value) in row.iter().enumerate() {
            columns[channel * classes + class] = value / length;
        }
    }
    Ok(columns)
}
