//! Classes whose features are known: what every method comes to whose class features do not depend on the picture.

use burn::tensor::Tensor;

use super::Prompt;
use crate::objective::similarity;
use crate::train::{Parameters, TrainError};

/// Features of the classes that are the same for every picture.
#[derive(Clone, Debug)]
pub struct ClassFeatures {
    features: Tensor<2>,
    logit_scale: Tensor<1>,
}

impl ClassFeatures {
    /// `features` `[K, D]`, not necessarily of unit length; `logit_scale` `[1]`.
    pub fn new(features: Tensor<2>, logit_scale: Tensor<1>) -> Self {
        Self {
            features,
            logit_scale,
        }
    }

    /// `[K, D]`, not necessarily of unit length.
    pub fn features(&self) -> Tensor<2> {
        self.features.clone()
    }

    /// Logits `[B, K]` of image features `[B, D]`, not necessarily of unit length: their scaled cosines.
    pub fn classify(&self, image_features: Tensor<2>) -> Tensor<2> {
        similarity::logits(image_features, self.features(), self.logit_scale.clone())
    }
}

impl Prompt for ClassFeatures {
    fn logits(
        &self,
        _parameters: &Parameters,
        image_features: Tensor<2>,
    ) -> Result<Tensor<2>, TrainError> {
        Ok(self.classify(image_features))
    }

    fn class_features(
        &self,
        _parameters: &Parameters,
    ) -> Result<Option<ClassFeatures>, TrainError> {
        Ok(Some(self.clone()))
    }
}
