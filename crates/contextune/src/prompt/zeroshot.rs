//! Zero-shot classification: nothing is learned, words are the prompt (Radford et al. 2021, §3.1).

use burn::tensor::Tensor;

use crate::backbone::{BackboneError, TextTower};
use crate::objective::similarity::normalise;
use crate::text::{Overlong, TemplateSet, TextError, Tokenizer};

/// Why a classifier cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ZeroShotError {
    /// A filled template is no valid prompt.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A prompt does not fit the tower.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
}

/// Features of the classes, `[K, D]`, of unit length: each template's feature brought to unit length, averaged over the
/// templates, brought to unit length again.
///
/// # Errors
/// A prompt that is too long for the tower.
pub fn classifier(
    text: &TextTower,
    tokenizer: &Tokenizer,
    class_names: &[String],
    templates: &TemplateSet,
) -> Result<Tensor<2>, ZeroShotError> {
    let limit = text.config().context_length;
    let prompts = class_names
        .iter()
        .flat_map(|name| templates.fill(name))
        .map(|prompt| tokenizer.tokenize(&prompt, limit, Overlong::Refuse))
        .collect::<Result<Vec<_>, TextError>>()?;
    let features = normalise(text.encode_frozen(&prompts)?); // [K·T, D]
    let [_, width] = features.dims();
    let mean = features
        .reshape([class_names.len(), templates.templates().len(), width])
        .mean_dim(1) // [K, 1, D]
        .reshape([class_names.len(), width]);
    Ok(normalise(mean))
}
