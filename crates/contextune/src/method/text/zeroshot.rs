//! Zero-shot classification: nothing is learned, words are the prompt (Radford et al. 2021, §3.1).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::architecture::ModelConfig;
use crate::backbone::TextTower;
use crate::method::{Beginning, Lesson, Method, MethodError, Needs, Recipe};
use crate::model::Model;
use crate::objective::similarity::normalise;
use crate::parameters::{ExpectedTensor, Parameters, Size};
use crate::task::{ClassFeatures, Classify, Predictor, Prompt};
use crate::text::{Overlong, TemplateSet, TextError, Tokenizer};

/// Words as the prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZeroShotSettings {
    /// The templates, one a line.
    pub templates: String,
}

impl Method for ZeroShotSettings {
    const NAME: &'static str = "zeroshot";

    type Task = Classify;

    fn needs(&self, _model: &ModelConfig) -> Needs {
        Needs::FEATURES_AND_WORDS
    }

    fn tensors(&self, _model: &Model, _classes: Size) -> Result<Vec<ExpectedTensor>, MethodError> {
        Ok(Vec::new())
    }

    fn begin(&self, lesson: &Lesson<'_, Classify>) -> Result<Beginning<Classify>, MethodError> {
        let parameters = Parameters::default();
        let prompt = self.open(lesson.model, lesson.class_names, &parameters, None)?;
        Ok(Beginning { prompt, parameters })
    }

    fn open(
        &self,
        model: &Model,
        class_names: &[String],
        _parameters: &Parameters,
        stored: Option<Tensor<2>>,
    ) -> Result<Box<dyn Prompt<Classify>>, MethodError> {
        let features = known_or_written(stored, model, class_names, &self.templates)?;
        Ok(Box::new(ClassFeatures::new(features, model.logit_scale()?)))
    }

    fn published(&self, _shots: Option<usize>) -> Recipe {
        Recipe::without_steps()
    }

    fn learns(&self) -> bool {
        false
    }
}

/// Returns what classifies by hand-written templates, one a line, alone.
///
/// # Errors
/// A model without words, a prompt that is too long for the tower.
pub fn predictor(
    model: &Model,
    class_names: &[String],
    templates: &str,
) -> Result<Predictor<Classify>, MethodError> {
    let settings = ZeroShotSettings {
        templates: templates.to_owned(),
    };
    let none = Parameters::default();
    let prompt = settings.open(model, class_names, &none, None)?;
    let class_names = class_names.to_vec();
    Ok(Predictor::new(prompt, none, class_names, model.device())?)
}

/// Class features that are known already, or those of hand-written templates, one a line: `[K, D]` of unit length.
pub(in crate::method) fn known_or_written(
    known: Option<Tensor<2>>,
    model: &Model,
    class_names: &[String],
    templates: &str,
) -> Result<Tensor<2>, MethodError> {
    match known {
        Some(features) => Ok(features),
        None if class_names.is_empty() => Err(MethodError::NoClasses),
        None => {
            let templates = TemplateSet::new(templates, "the templates")?;
            let (text, tokenizer) = (model.text_tower()?, model.tokenizer()?);
            classifier(&text, &tokenizer, class_names, &templates)
        }
    }
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
) -> Result<Tensor<2>, MethodError> {
    let features = normalise(features(text, tokenizer, class_names, templates)?); // [K·T, D]
    Ok(normalise(mean_over_templates(features, class_names.len())))
}

/// The mean over the templates, one a line, of features that are not of unit length: `[K, D]`.
pub(in crate::method) fn mean_features(
    model: &Model,
    class_names: &[String],
    templates: &str,
) -> Result<Tensor<2>, MethodError> {
    if class_names.is_empty() {
        return Err(MethodError::NoClasses);
    }
    let templates = TemplateSet::new(templates, "the templates")?;
    let (text, tokenizer) = (model.text_tower()?, model.tokenizer()?);
    let features = features(&text, &tokenizer, class_names, &templates)?; // [K·T, D]
    Ok(mean_over_templates(features, class_names.len()))
}

/// Every template filled with every name, class by class: `[K·T, D]`, not of unit length.
fn features(
    text: &TextTower,
    tokenizer: &Tokenizer,
    class_names: &[String],
    templates: &TemplateSet,
) -> Result<Tensor<2>, MethodError> {
    let limit = text.config().context_length;
    let prompts = class_names
        .iter()
        .flat_map(|name| templates.fill(name))
        .map(|prompt| tokenizer.tokenize(&prompt, limit, Overlong::Refuse))
        .collect::<Result<Vec<_>, TextError>>()?;
    Ok(text.encode_frozen(&prompts)?)
}

/// `[K·T, D]` -> `[K, D]`.
fn mean_over_templates(features: Tensor<2>, classes: usize) -> Tensor<2> {
    let [rows, width] = features.dims();
    features
        .reshape([classes, rows / classes, width])
        .mean_dim(1) // [K, 1, D]
        .reshape([classes, width])
}
