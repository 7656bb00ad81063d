//! Classes whose features are known: what every method comes to whose class features do not depend on the picture.

use std::fmt::Debug;

use burn::tensor::Tensor;

use super::{Classify, Prompt, PromptError};
use crate::input::Inputs;
use crate::objective::similarity;
use crate::parameters::Parameters;

/// Features of the classes that are the same for every picture.
#[derive(Clone, Debug)]
pub struct ClassFeatures {
    features: Tensor<2>,
    logit_scale: Tensor<1>,
}

impl ClassFeatures {
    /// Classes by their `features` `[K, D]`, not necessarily of unit length; `logit_scale` `[1]` is the logarithm of the factor
    /// on the cosine.
    pub fn new(features: Tensor<2>, logit_scale: Tensor<1>) -> Self {
        Self {
            features,
            logit_scale,
        }
    }

    /// Returns the features, `[K, D]`, not necessarily of unit length.
    pub fn features(&self) -> Tensor<2> {
        self.features.clone()
    }

    /// Returns the logits `[B, K]` of image features `[B, D]`, not necessarily of unit length: their scaled cosines.
    pub fn classify(&self, image_features: Tensor<2>) -> Tensor<2> {
        similarity::logits(image_features, self.features(), self.logit_scale.clone())
    }
}

impl Prompt<Classify> for ClassFeatures {
    fn forward(&self, _parameters: &Parameters, inputs: &Inputs) -> Result<Tensor<2>, PromptError> {
        Ok(self.classify(inputs.features()?))
    }

    fn class_features(
        &self,
        _parameters: &Parameters,
    ) -> Result<Option<ClassFeatures>, PromptError> {
        Ok(Some(self.clone()))
    }
}

/// A prompt that comes to features of the classes, the same for every picture. That makes it a [`Prompt`], whose features are
/// computed once when nothing is learned any more.
pub trait LearnedClassifier: Debug + Send + Sync {
    /// Returns the features of the classes.
    ///
    /// # Errors
    /// Parameters that are missing or have another shape.
    fn classifier(&self, parameters: &Parameters) -> Result<ClassFeatures, PromptError>;
}

impl<C: LearnedClassifier> Prompt<Classify> for C {
    fn forward(&self, parameters: &Parameters, inputs: &Inputs) -> Result<Tensor<2>, PromptError> {
        Ok(self.classifier(parameters)?.classify(inputs.features()?))
    }

    fn ready(
        &self,
        parameters: &Parameters,
    ) -> Result<Option<Box<dyn Prompt<Classify>>>, PromptError> {
        Ok(Some(Box::new(self.classifier(parameters)?)))
    }

    fn class_features(
        &self,
        parameters: &Parameters,
    ) -> Result<Option<ClassFeatures>, PromptError> {
        self.classifier(parameters).map(Some)
    }
}
