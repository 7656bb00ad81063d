//! What a pre-training run is told, what it tells of every epoch, and its result.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use contextune::backbone::{ModelConfig, TextTowerConfig};
use contextune::checkpoint::Normalization;
use contextune::evaluate::Retrieval;
use contextune::pretrain::PatchDropping;
use contextune::train::{EpochMetrics, FitSettings};
use serde::{Deserialize, Serialize};

/// The name in `run.toml` and `result.json`.
pub const METHOD: &str = "pretrain";

/// Everything a resumed run needs to know; `run.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    pub method: String,
    pub data: PathBuf,
    pub from: Option<String>,
    pub distill: Vec<PathBuf>,
    pub distill_weight: f32,
    pub patch_dropping: Option<PatchDropping>,
    pub batch_size: usize,
    pub warmup_epochs: usize,
    pub seed: u64,
    pub evaluate_every: usize,
    pub fit: FitSettings,
    pub normalization: Normalization,
    pub config: ModelConfig,
}

impl Settings {
    /// Returns the text tower's architecture.
    ///
    /// # Errors
    /// The architecture has none.
    pub fn text_config(&self) -> Result<&TextTowerConfig> {
        let text = self.config.text.as_ref();
        text.context("this architecture has no text tower; pretrain trains a CLIP, which has two")
    }
}

/// A line of `metrics.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PretrainMetrics {
    #[serde(flatten)]
    pub epoch: EpochMetrics,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val: Option<Retrieval>,
}

/// `result.json` of a pre-training run.
#[derive(Debug, Serialize, Deserialize)]
pub struct PretrainResult {
    pub method: String,
    pub parameters: usize,
    pub train_seconds: f64,
    pub val: Option<Retrieval>,
    pub test: Option<Retrieval>,
}
