//! From a prompt file and class names to class features, whatever the method.

use std::collections::HashMap;
use std::str::FromStr;

use burn::tensor::Tensor;

use super::coop::{self, CoOp, ContextLayout};
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
    /// A context for each class says nothing of other classes.
    #[error(
        "this prompt has a context for each class it was learned for and none for others: use it on data with the same classes, or learn one without --class-specific"
    )]
    OtherClasses,
    /// A setting that the method needs.
    #[error("the prompt file lacks a usable {name} in its metadata")]
    MissingSetting {
        /// The setting.
        name: &'static str,
    },
}

/// Keys of CoOp's layout in a prompt file's settings.
const CONTEXT_LENGTH: &str = "context_length";
const CLASS_SPECIFIC: &str = "class_specific";
const POSITION: &str = "position";
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
            let layout = context_layout(prompt)?;
            if layout.class_specific && prompt.class_names != class_names {
                return Err(ClassFeaturesError::OtherClasses);
            }
            let limit = text.config().context_length;
            let placeholders = coop::placeholders(&tokenizer, class_names, layout.length, limit)?;
            let coop = CoOp::new(&text, model.logit_scale()?, &placeholders, layout)
                .map_err(TrainError::from)?;
            Ok(coop.text_features(&prompt.parameters)?)
        }
        _ => Err(ClassFeaturesError::UnknownMethod {
            method: prompt.method.clone(),
        }),
    }
}

/// CoOp's layout as a prompt file's settings.
pub fn layout_settings(layout: ContextLayout) -> HashMap<String, String> {
    HashMap::from([
        (CONTEXT_LENGTH.into(), layout.length.to_string()),
        (CLASS_SPECIFIC.into(), layout.class_specific.to_string()),
        (POSITION.into(), layout.position.to_string()),
    ])
}

/// CoOp's layout from a prompt file's settings.
///
/// # Errors
/// One that is missing or unreadable.
pub fn context_layout(prompt: &PromptFile) -> Result<ContextLayout, ClassFeaturesError> {
    fn setting<T: FromStr>(
        prompt: &PromptFile,
        name: &'static str,
    ) -> Result<T, ClassFeaturesError> {
        let text = prompt.settings.get(name);
        text.and_then(|text| text.parse().ok())
            .ok_or(ClassFeaturesError::MissingSetting { name })
    }
    Ok(ContextLayout {
        length: setting(prompt, CONTEXT_LENGTH)?,
        class_specific: setting(prompt, CLASS_SPECIFIC)?,
        position: setting(prompt, POSITION)?,
    })
}
