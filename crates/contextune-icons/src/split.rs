//! The committed split file: what each emoji is called and which part of the benchmark may use it.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// The content of `split.json`.
#[derive(Debug, Deserialize)]
pub struct Split {
    /// What the seeded order was drawn from.
    pub seed: String,
    /// Folder names of the styles, held-out one included.
    pub styles: Vec<String>,
    /// The style whose pictures pre-training never sees.
    pub held_out_style: String,
    /// Every emoji with a name, in Unicode's order.
    pub concepts: Vec<Concept>,
    /// The classes of the few-shot tasks; only concepts that pre-training never sees.
    pub subgroups: Vec<Class>,
    /// The same concepts in fewer, wider classes.
    pub coarse: Vec<Class>,
    /// The classes of the demo: pictures of the held-out style only.
    pub demo: Vec<Class>,
}

/// One emoji.
#[derive(Debug, Deserialize)]
pub struct Concept {
    /// Code points in lower-case hexadecimal, joined by `-`, without the variation selector `fe0f`.
    pub code: String,
    /// The English name, readable in a sentence, unique.
    pub name: String,
    /// The subgroup of Unicode's emoji list, such as `animal-mammal`.
    pub subgroup: String,
    /// Equal for pictures that differ in a detail (man and woman, one heart in two colours).
    pub relatives: String,
    /// Who may see it.
    pub role: Role,
}

/// Which part of the benchmark may use a concept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Pre-training, in every style but the held-out one.
    Pretrain,
    /// Never pre-training; chooses between checkpoints, and gives the few-shot tasks their shots.
    Validation,
    /// Never pre-training, never a choice: the held-out names of the retrieval test and the few-shot tests.
    Retrieval,
    /// A relative of a concept of the two roles before: in no part at all.
    Unused,
}

/// One class of a few-shot task: which concepts give its pictures.
#[derive(Debug, Deserialize)]
pub struct Class {
    /// The readable class name.
    pub name: String,
    /// Codes of the concepts that shots are drawn from.
    pub train: Vec<String>,
    /// Codes of the concepts of the validation split.
    pub val: Vec<String>,
    /// Codes of the concepts of the test split.
    pub test: Vec<String>,
}

impl Split {
    /// Reads the split file at `path`.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is not a split file", path.display()))
    }

    /// The concepts by code.
    pub fn by_code(&self) -> HashMap<&str, &Concept> {
        self.concepts
            .iter()
            .map(|concept| (concept.code.as_str(), concept))
            .collect()
    }
}
