//! KgCoOp: CoOp that stays near the words a person would write (Yao et al. 2023, "Visual-Language Prompt Tuning with
//! Knowledge-guided Context Optimization", §3.2).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::coop::{CoOp, ContextLayout};
use super::guided::{Guidance, GuidedSettings};
use crate::method::{Recipe, SettingError};
use crate::objective::contrastive::distillation_loss;
use crate::objective::similarity;
use crate::parameters::Parameters;
use crate::task::{Batch, Classify, PromptError, Task};
use crate::train::StepOutcome;

/// CoOp with a second loss; the templates are what to stay near to.
pub type KgCoOpSettings = GuidedSettings<KgCoOp>;

/// Cross-entropy + λ · mean over the classes of 1 − cosine to the hand-written feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KgCoOp {
    /// Factor λ of the distance.
    pub weight: f32,
}

impl KgCoOp {
    /// As published (Yao et al. 2023, §4.1).
    pub const PUBLISHED: Self = Self { weight: 8.0 };
}

impl Guidance for KgCoOp {
    const NAME: &'static str = "kgcoop";

    fn check(&self) -> Result<(), SettingError> {
        SettingError::check_factor("weight", self.weight)
    }

    /// A hundred epochs of 128 pictures a step (Yao et al. 2023, §4.1).
    fn published(&self, _layout: &ContextLayout, _shots: Option<usize>) -> Recipe {
        Recipe::coop(100, 128)
    }

    fn step(
        &self,
        coop: &CoOp,
        hand_written: &Tensor<2>,
        leaves: &Parameters,
        batch: &Batch<Classify>,
    ) -> Result<StepOutcome, PromptError> {
        let texts = coop.text_features(leaves)?; // [K, D]
        let images = batch.inputs.features()?;
        let logits = similarity::logits(images, texts.clone(), coop.logit_scale()); // [B, K]
        let correct = Classify::correct(&logits, &batch.targets);
        let distance = distillation_loss(texts, hand_written.clone());
        let loss = Classify::loss(logits, &batch.targets) + distance * self.weight;
        Ok(batch.backward(loss, leaves, correct))
    }
}
