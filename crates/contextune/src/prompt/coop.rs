//! CoOp: context vectors in place of the words around a class name (Zhou et al. 2022, "Learning to Prompt for
//! Vision-Language Models", §3.2).

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use burn::tensor::{Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use serde::{Deserialize, Serialize};

use super::Prompt;
use crate::backbone::{BackboneError, PreparedPrompts, PromptLayout, Row, TextTower};
use crate::objective::similarity;
use crate::text::{Overlong, TextError, Tokenizer};
use crate::train::{Parameters, TrainError};

/// The context's name in prompt files, ours and the official ones.
pub const CONTEXT: &str = "ctx";
/// Standard deviation of randomly initialised context vectors.
pub const INITIAL_DEVIATION: f32 = 0.02;

/// Where the class name stands among the context vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Position {
    /// `[start][ctx 1 … ctx M][name][.][end]`
    #[default]
    End,
    /// `[start][first half of ctx][name][second half][.][end]`; the first half has ⌊M / 2⌋ vectors.
    Middle,
    /// `[start][name][ctx 1 … ctx M][.][end]`
    Front,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::End => "end",
            Self::Middle => "middle",
            Self::Front => "front",
        })
    }
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "end" => Ok(Self::End),
            "middle" => Ok(Self::Middle),
            "front" => Ok(Self::Front),
            _ => Err("a position is end, middle or front".into()),
        }
    }
}

/// What the prompts of all classes have in common (Zhou et al. 2022, §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextLayout {
    /// Context vectors of a prompt, M.
    pub length: usize,
    /// Whether each class has a context of its own, instead of one for all.
    pub class_specific: bool,
    /// Where the class name stands.
    pub position: Position,
}

impl ContextLayout {
    /// The shape of the parameter [`CONTEXT`] for K classes and a tower of width d: `[M, d]`, class-specific
    /// `[K, M, d]`.
    pub fn shape(&self, classes: usize, width: usize) -> Vec<usize> {
        match self.class_specific {
            false => vec![self.length, width],
            true => vec![classes, self.length, width],
        }
    }
}

/// A class prompt "X … X name." as tokens; the context vectors replace the X.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placeholder {
    /// From start to end token.
    pub ids: Vec<u32>,
    /// How many tokens the class name has.
    pub name_length: usize,
}

/// The prompts of all classes, as the official code builds them.
///
/// # Errors
/// A prompt longer than `limit` tokens, or a tokenizer that joins the X.
pub fn placeholders(
    tokenizer: &Tokenizer,
    class_names: &[String],
    context_length: usize,
    limit: usize,
) -> Result<Vec<Placeholder>, TextError> {
    // More than the limit are refused below, however many more.
    let context = "X ".repeat(context_length.min(limit));
    class_names
        .iter()
        .map(|name| {
            let name = name.replace('_', " ");
            let prompt = format!("{context}{name}.");
            let ids = tokenizer.tokenize(&prompt, limit, Overlong::Refuse)?;
            let Some(most) = ids.len().checked_sub(context_length + 2) else {
                return Err(TextError::Context {
                    text: prompt,
                    context_length,
                });
            };
            Ok(Placeholder {
                // Marks at the end of a name may become one token with the full stop: the name then has fewer.
                name_length: tokenizer.encode(&name)?.len().min(most),
                ids,
            })
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
    /// `vectors` vectors for this tower, `[vectors, d]`. Tokens must be as many.
    pub fn context(&self, text: &TextTower, vectors: usize) -> Tensor<2> {
        match self {
            Self::Tokens(ids) => text.embed(ids),
            Self::Random { seed } => {
                let width = text.config().width;
                let values: Vec<f32> = Normal::new(0.0, INITIAL_DEVIATION)
                    .expect("a standard deviation is finite")
                    .sample_iter(ChaCha8Rng::seed_from_u64(*seed))
                    .take(vectors * width)
                    .collect();
                let values = TensorData::new(values, [vectors, width]);
                Tensor::from_data(values, &text.token_embedding().device())
            }
        }
    }
}

/// A prompt for each class, of context vectors and its name.
#[derive(Debug)]
pub struct CoOp {
    text: TextTower,
    prompts: PreparedPrompts,
    layout: ContextLayout,
    classes: usize,
    logit_scale: Tensor<1>,
}

impl CoOp {
    /// Lays out one prompt for each class.
    ///
    /// # Errors
    /// A prompt too long for the tower.
    pub fn new(
        text: &TextTower,
        logit_scale: Tensor<1>,
        placeholders: &[Placeholder],
        layout: ContextLayout,
    ) -> Result<Self, BackboneError> {
        let prompts: Vec<Vec<Row>> = placeholders
            .iter()
            .enumerate()
            .map(|(class, placeholder)| prompt_rows(placeholder, layout, class))
            .collect();
        Ok(Self {
            prompts: text.prepare(&PromptLayout::new(&prompts))?,
            text: text.clone(),
            layout,
            classes: placeholders.len(),
            logit_scale,
        })
    }

    /// Features of the class prompts, `[K, D]`, not of unit length.
    pub fn text_features(&self, parameters: &Parameters) -> Result<Tensor<2>, TrainError> {
        let width = self.text.config().width;
        let expected = self.layout.shape(self.classes, width);
        let found = parameters.shape(CONTEXT);
        if found != Some(&expected[..]) {
            return Err(match found {
                None => TrainError::MissingParameter {
                    name: CONTEXT.into(),
                },
                Some(found) => TrainError::ParameterShape {
                    name: CONTEXT.into(),
                    found: found.to_vec(),
                    expected: format!("{expected:?}"),
                },
            });
        }
        let vectors: usize = expected.iter().product::<usize>() / width;
        let context = match self.layout.class_specific {
            false => parameters.get::<2>(CONTEXT)?,
            true => parameters.get::<3>(CONTEXT)?.reshape([vectors, width]), // [K · M, d]
        };
        Ok(self.text.encode(&self.prompts, Some(context)))
    }
}

/// The rows of one class's prompt, from start to end token.
fn prompt_rows(placeholder: &Placeholder, layout: ContextLayout, class: usize) -> Vec<Row> {
    let ContextLayout {
        length,
        class_specific,
        position,
    } = layout;
    let first = if class_specific { class * length } else { 0 };
    let (start, rest) = placeholder.ids.split_at(1);
    let (name, end) = rest[length..].split_at(placeholder.name_length);
    let tokens = |ids: &[u32]| ids.iter().map(|&id| Row::Token(id)).collect::<Vec<_>>();
    let context = |vectors: Range<usize>| {
        vectors
            .map(|vector| Row::Learned(first + vector))
            .collect::<Vec<_>>()
    };
    let middle = match position {
        Position::End => [context(0..length), tokens(name)].concat(),
        Position::Middle => {
            let half = length / 2;
            [context(0..half), tokens(name), context(half..length)].concat()
        }
        Position::Front => [tokens(name), context(0..length)].concat(),
    };
    [tokens(start), middle, tokens(end)].concat()
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
