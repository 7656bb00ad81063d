//! From a prompt file and class names to class features, whatever the method.

use burn::tensor::Tensor;

use super::coop::{self, CoOp};
use super::format::PromptFile;
use super::zeroshot::{self, ZeroShotError};
use crate::model::{Model, ModelError};
use crate::text::{TemplateSet, TextError};
use crate::train::TrainError;

/// Why class features cannot be computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClassFeaturesError {
    /// The model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A class name gives no valid prompt.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The classifier cannot be built.
    #[error(transparent)]
    ZeroShot(#[from] ZeroShotError),
    /// The learned tensors do not fit.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A method that this version does not know.
    #[error("the prompt was learned by {method}, which this version cannot use")]
    UnknownMethod {
        /// The method.
        method: String,
    },
    /// A setting that the method needs.
    #[error("the prompt file lacks a usable {name} in its metadata")]
    MissingSetting {
        /// The setting.
        name: &'static str,
    },
}

/// Key of CoOp's context length in a prompt file's settings.
pub const CONTEXT_LENGTH: &str = "context_length";
/// Key of the zero-shot templates, one a line, in a prompt file's settings.
pub const TEMPLATES: &str = "templates";

/// Features of `class_names` under the prompt, `[K, D]`, not of unit length.
pub fn class_features(
    prompt: &PromptFile,
    model: &Model,
    class_names: &[String],
) -> Result<Tensor<2>, ClassFeaturesError> {
    let text = model.text_tower()?;
    let tokenizer = model.tokenizer()?;
    let setting = |name: &'static str| {
        prompt
            .settings
            .get(name)
            .ok_or(ClassFeaturesError::MissingSetting { name })
    };
    match prompt.method.as_str() {
        "zeroshot" => {
            let templates = TemplateSet::new(setting(TEMPLATES)?, "the prompt file")?;
            Ok(zeroshot::classifier(
                &text,
                &tokenizer,
                class_names,
                &templates,
            )?)
        }
        "coop" => {
            let context_length = setting(CONTEXT_LENGTH)?.parse().map_err(|_| {
                ClassFeaturesError::MissingSetting {
                    name: CONTEXT_LENGTH,
                }
            })?;
            let limit = text.config().context_length;
            let placeholders = coop::placeholders(&tokenizer, class_names, context_length, limit)?;
            let coop = CoOp::new(&text, model.logit_scale()?, &placeholders, context_length)
                .map_err(TrainError::from)?;
            Ok(coop.text_features(&prompt.parameters)?)
        }
        _ => Err(ClassFeaturesError::UnknownMethod {
            method: prompt.method.clone(),
        }),
    }
}
