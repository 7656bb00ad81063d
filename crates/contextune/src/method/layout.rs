//! How learned context vectors stand in the prompts of the classes (Zhou et al. 2022, §3.2).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::{MethodError, SettingError};
use crate::architecture::ModelConfig;
use crate::model::Model;
use crate::parameters::{ExpectedTensor, Size};

/// The context's name in prompt files, ours and the official ones.
pub const CONTEXT: &str = "ctx";

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

/// What the prompts of all classes have in common, which is all that CoOp has to be told (Zhou et al. 2022, §3.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextLayout {
    /// Context vectors of a prompt, M.
    #[serde(rename = "context_length")]
    pub length: usize,
    /// Whether each class has a context of its own, instead of one for all.
    pub class_specific: bool,
    /// Where the class name stands.
    pub position: Position,
    /// Words that the context replaces as published: one vector for each word, and where a word has several tokens the
    /// surplus stays, as a constant, between context and class name. Absent: the context replaces nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_words: Option<String>,
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

    /// Returns the row of the context in a prompt's table of tensors.
    ///
    /// # Errors
    /// A model without a text tower.
    pub fn tensor(&self, model: &Model, classes: Size) -> Result<ExpectedTensor, MethodError> {
        let [length, width] = [self.length, model.text_config()?.width].map(Size::Exactly);
        Ok(match self.class_specific {
            false => ExpectedTensor::sized(CONTEXT, &[length, width]),
            true => ExpectedTensor::sized(CONTEXT, &[classes, length, width]),
        })
    }

    /// Refuses a context without vectors, and one that no prompt of this model has room for.
    ///
    /// # Errors
    /// The setting `context-length`.
    pub fn check_length(&self, model: &ModelConfig) -> Result<(), SettingError> {
        let refuse = |problem| Err(SettingError::new("context-length", problem));
        let limit = model.text.as_ref().map(|text| text.context_length);
        match (self.length, limit) {
            (0, _) => refuse("is 0; a context has at least one vector".to_owned()),
            // Start and end of the text take two.
            (length, Some(limit)) if length.saturating_add(2) > limit => refuse(format!(
                "is {length}; this model's prompts have {limit} tokens, class name, start and end included"
            )),
            _ => Ok(()),
        }
    }
}
