//! What a method needs of a model, declared by the method and checked here.

use super::MethodError;
use crate::backbone::ImageTowerConfig;
use crate::input::InputKind;
use crate::model::{Model, ModelError};

/// What a method needs of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// What it is given of each example.
    pub input: InputKind,
    /// Whether it needs words: a text tower and a tokenizer.
    pub text_tower: bool,
    /// Whether its prompts stand between the tokens of a vision transformer.
    pub vision_transformer: bool,
    /// Whether it needs the labels that the model was pretrained with.
    pub pretrained_labels: bool,
}

impl Needs {
    /// Image features alone.
    pub const FEATURES: Self = Self {
        input: InputKind::Features,
        text_tower: false,
        vision_transformer: false,
        pretrained_labels: false,
    };

    /// Image features and words.
    pub const FEATURES_AND_WORDS: Self = Self {
        text_tower: true,
        ..Self::FEATURES
    };

    /// Pixels of a square with this side, prepared as the model prepares its own input.
    pub const fn pixels(side: usize) -> Self {
        Self {
            input: InputKind::Pixels { side, margin: true },
            ..Self::FEATURES
        }
    }

    /// Checks that `model` has what is needed.
    ///
    /// # Errors
    /// The first part that it lacks.
    pub fn check(&self, model: &Model) -> Result<(), MethodError> {
        let config = model.config();
        if self.text_tower {
            model.text_config()?;
        }
        if self.pretrained_labels && config.pretrained_classes.is_none() {
            let model = model.source().to_owned();
            return Err(ModelError::NoClassifier { model }.into());
        }
        match (&config.image, self.vision_transformer) {
            (ImageTowerConfig::Vit(_), _) | (_, false) => Ok(()),
            _ => Err(MethodError::NeedsVisionTransformer),
        }
    }
}
