//! Fine-tuning the image encoder, the baseline that CoOp's paper warns of (Zhou et al. 2022, §4.2, "Comparison with Other
//! Fine-tuning Methods"): every parameter of the image tower learns, the classes keep the features of hand-written words.
//! Its code and settings were not published: it trains as CoOp does.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::zeroshot::known_or_written;
use super::{Beginning, Learn, Lesson, MethodError, Prompt, Recipe};
use crate::backbone::{ImageTower, ModelConfig, PixelNormalisation};
use crate::features::Sees;
use crate::model::Model;
use crate::objective::similarity;
use crate::train::{Parameters, TrainError};

/// BatchNorm's running statistics, by the ends of their names: CLIP stays in evaluation mode, they do not learn.
const STATISTICS: [&str; 2] = ["running_mean", "running_var"];

/// The whole image tower.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageEncoderSettings {
    /// Hand-written templates, one a line.
    pub templates: String,
}

impl Learn for ImageEncoderSettings {
    fn begin(&self, lesson: &Lesson<'_>) -> Result<Beginning, MethodError> {
        let mut parameters = lesson.model.image_parameters()?;
        let names: Vec<String> = parameters.names().map(str::to_owned).collect();
        for name in names {
            if STATISTICS.iter().any(|end| name.ends_with(end)) {
                parameters.hold_constant(&name);
            }
        }
        let prompt = self.open(lesson.model, lesson.class_names, &parameters, None)?;
        Ok(Beginning { prompt, parameters })
    }

    fn open(
        &self,
        model: &Model,
        class_names: &[String],
        _parameters: &Parameters,
        stored: Option<Tensor<2>>,
    ) -> Result<Box<dyn Prompt>, MethodError> {
        Ok(Box::new(ImageEncoder {
            words: known_or_written(stored, model, class_names, &self.templates)?,
            config: model.config().clone(),
            normalisation: model.normalisation(),
            logit_scale: model.logit_scale()?,
        }))
    }

    fn published(&self, _shots: Option<usize>) -> Recipe {
        Recipe::coop(50, 32)
    }

    fn sees(&self, model: &Model) -> Sees {
        Sees::Pixels {
            side: model.config().image.image_size(),
            margin: true,
        }
    }
}

/// A tower of the learned parameters in front of fixed class features.
#[derive(Debug)]
struct ImageEncoder {
    /// `[K, D]`
    words: Tensor<2>,
    config: ModelConfig,
    normalisation: PixelNormalisation,
    logit_scale: Tensor<1>,
}

impl Prompt for ImageEncoder {
    /// `pixels` `[B, 3 · size · size]` in 0..1.
    fn logits(&self, parameters: &Parameters, pixels: Tensor<2>) -> Result<Tensor<2>, TrainError> {
        let tower = ImageTower::build(&mut &*parameters, &self.config)?;
        let (pictures, size) = (pixels.dims()[0], self.config.image.image_size());
        let pixels = pixels.reshape([pictures, 3, size, size]);
        let images = tower.forward(self.normalisation.forward(pixels)); // [B, D]
        let (words, scale) = (self.words.clone(), self.logit_scale.clone());
        Ok(similarity::logits(images, words, scale))
    }

    fn stored_features(&self, _parameters: &Parameters) -> Result<Option<Tensor<2>>, TrainError> {
        Ok(Some(self.words.clone()))
    }
}
