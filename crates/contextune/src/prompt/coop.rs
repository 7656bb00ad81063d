//! CoOp: context vectors in place of the words around a class name (Zhou et al. 2022, "Learning to Prompt for
//! Vision-Language Models", §3.2).

use burn::tensor::{Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use super::Prompt;
use crate::backbone::{BackboneError, PreparedPrompts, PromptLayout, Row, TextTower};
use crate::objective::similarity;
use crate::text::{Overlong, TextError, Tokenizer};
use crate::train::{Parameters, TrainError};

/// The context's name in prompt files, ours and the official ones.
pub const CONTEXT: &str = "ctx";
/// Standard deviation of randomly initialised context vectors.
pub const INITIAL_DEVIATION: f32 = 0.02;

/// The tokenised prompts "X … X name.", from start to end token, whose X the context vectors replace.
///
/// # Errors
/// A prompt longer than `limit` tokens.
pub fn placeholders(
    tokenizer: &Tokenizer,
    class_names: &[String],
    context_length: usize,
    limit: usize,
) -> Result<Vec<Vec<u32>>, TextError> {
    let context = "X ".repeat(context_length);
    class_names
        .iter()
        .map(|name| {
            let prompt = format!("{context}{}.", name.replace('_', " "));
            tokenizer.tokenize(&prompt, limit, Overlong::Refuse)
        })
        .collect()
}

/// How the context vectors begin.
#[derive(Clone, Debug)]
pub enum Initialisation {
    /// Drawn from N(0, 0.02²) with this seed.
    Random {
        /// Seed of the draw.
        seed: u64,
    },
    /// The embeddings of these tokens, one vector each.
    Tokens(Vec<u32>),
}

impl Initialisation {
    /// `context_length` vectors for this tower, `[M, d]`. Tokens must be as many.
    pub fn context(&self, text: &TextTower, context_length: usize) -> Tensor<2> {
        match self {
            Self::Tokens(ids) => text.embed(ids),
            Self::Random { seed } => {
                let width = text.config().width;
                let values: Vec<f32> = Normal::new(0.0, INITIAL_DEVIATION)
                    .expect("a standard deviation is finite")
                    .sample_iter(ChaCha8Rng::seed_from_u64(*seed))
                    .take(context_length * width)
                    .collect();
                let values = TensorData::new(values, [context_length, width]);
                Tensor::from_data(values, &text.token_embedding().device())
            }
        }
    }
}

/// Context shared by all classes, class name at the end: `[start][ctx 1 … ctx M][name][.][end]`.
#[derive(Debug)]
pub struct CoOp {
    text: TextTower,
    prompts: PreparedPrompts,
    context_length: usize,
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
            context_length,
            logit_scale,
        })
    }

    /// Features of the class prompts, `[K, D]`, not of unit length.
    pub fn text_features(&self, parameters: &Parameters) -> Result<Tensor<2>, TrainError> {
        let context = parameters.get::<2>(CONTEXT)?; // [M, d]
        let expected = [self.context_length, self.text.config().width];
        if context.dims() != expected {
            return Err(TrainError::ParameterShape {
                name: CONTEXT.into(),
                found: context.dims().to_vec(),
                expected: format!("{expected:?}"),
            });
        }
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
