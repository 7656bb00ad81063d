//! CoOp: context vectors in place of the words around a class name (Zhou et al. 2022, "Learning to Prompt for
//! Vision-Language Models", §3.2).

use burn::tensor::Tensor;

use super::Prompt;
use crate::backbone::{BackboneError, PreparedPrompts, PromptLayout, Row, TextTower};
use crate::objective::similarity;
use crate::train::{Parameters, TrainError};

/// The context's name in prompt files, ours and the official ones.
pub const CONTEXT: &str = "ctx";
/// Standard deviation of randomly initialised context vectors.
pub const INITIAL_DEVIATION: f32 = 0.02;

/// Context shared by all classes, class name at the end: [start][ctx 1 .. ctx M][name][.][end].
#[derive(Debug)]
pub struct CoOp {
    text: TextTower,
    prompts: PreparedPrompts,
    logit_scale: Tensor<1>,
}

impl CoOp {
    /// Lays out one prompt for each class.
    ///
    /// `placeholders` are the tokenised prompts "X … X name." from start to end token, as the official code builds them:
    /// the `context_length` tokens after the start token are what the context vectors replace.
    ///
    /// # Errors
    /// A prompt too long for the tower.
    pub fn new(
        text: &TextTower,
        logit_scale: Tensor<1>,
        placeholders: &[Vec<u32>],
        context_length: usize,
    ) -> Result<Self, BackboneError> {
        let prompts: Vec<Vec<Row>> = placeholders
            .iter()
            .map(|ids| {
                ids.iter()
                    .enumerate()
                    .map(|(position, &id)| match position {
                        0 => Row::Token(id),
                        _ if position <= context_length => Row::Learned(position - 1),
                        _ => Row::Token(id),
                    })
                    .collect()
            })
            .collect();
        Ok(Self {
            prompts: text.prepare(&PromptLayout::new(&prompts))?,
            text: text.clone(),
            logit_scale,
        })
    }

    /// Features of the class prompts, `[K, D]`, not of unit length.
    pub fn text_features(&self, parameters: &Parameters) -> Result<Tensor<2>, TrainError> {
        let context = parameters.get::<2>(CONTEXT)?; // [M, d]
        Ok(self.text.encode(&self.prompts, Some(context)))
    }
}

impl Prompt for CoOp {
    fn logits(
        &self,
        parameters: &Parameters,
        image_features: Tensor<2>,
    ) -> Result<Tensor<2>, TrainError> {
        let text_features = self.text_features(parameters)?;
        Ok(similarity::logits(
            image_features,
            text_features,
            self.logit_scale.clone(),
        ))
    }
}
