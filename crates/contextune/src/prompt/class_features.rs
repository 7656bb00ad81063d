//! Classes whose features are known: what every method comes to whose class features do not depend on the picture.

use burn::tensor::Tensor;

use super::Prompt;
use crate::objective::similarity;
use crate::train::{Parameters, TrainError};

/// Fixed features of the classes; nothing is learned.
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
}

impl Prompt for ClassFeatures {
    fn logits(
        &self,
        _parameters: &Parameters,
        image_features: Tensor<2>,
    ) -> Result<Tensor<2>, TrainError> {
        let (features, scale) = (self.features.clone(), self.logit_scale.clone());
        Ok(similarity::logits(image_features, features, scale))
    }

    fn class_features(&self, _parameters: &Parameters) -> Result<Option<Tensor<2>>, TrainError> {
        Ok(Some(self.features.clone()))
    }
}
