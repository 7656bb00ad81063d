//! The arguments of `contextune pretrain`, and the settings that they mean.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use burn::tensor::Device;
use contextune::backbone::ImageTowerConfig;
use contextune::checkpoint::{self, Normalization};
use contextune::model::{Model, ModelOptions};
use contextune::pretrain::PatchDropping;
use contextune::train::{FitSettings, Optimizer, Schedule};

use super::settings::{METHOD, Settings};
use crate::options::WrongUsage;

/// Share of a run with --drop-patches that sees whole pictures, at its end.
const WHOLE_AT_END: f32 = 0.1;

/// Train a small CLIP from scratch, or further, on pictures with names.
///
/// The data are read as by the other commands; a file captions.json beside the split may give more words for each picture.
///
/// Example: contextune pretrain --data icon-concepts --epochs 60 --out runs/icons
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Pictures with names: a folder of class folders or a CoOp data set; val pictures measure retrieval.
    #[arg(long)]
    data: PathBuf,
    /// Folder for the run; the model is written to model.safetensors in it.
    #[arg(long)]
    pub out: PathBuf,
    /// Go on from this model (its architecture is kept).
    #[arg(long, value_name = "MODEL", conflicts_with = "architecture")]
    from: Option<String>,
    /// Architecture as JSON; without it that of the model in this program.
    #[arg(long, value_name = "FILE")]
    architecture: Option<PathBuf>,
    /// Features of frozen teachers to imitate as well: a safetensors file with image_features of any width (metadata
    /// `paths`; some of the pictures are enough) or text_features as wide as the joint space (metadata `texts`).
    #[arg(long, value_name = "FILE")]
    distill: Vec<PathBuf>,
    /// Factor of the imitation losses.
    #[arg(long, default_value_t = 1.0)]
    distill_weight: f32,
    /// Share of each picture's patches that a step leaves out, which makes it as much cheaper: 0 to below 1; the last
    /// tenth of the run sees whole pictures. Vision transformers only.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    drop_patches: f32,
    /// Passes over the training pictures.
    #[arg(long, default_value_t = 60)]
    epochs: usize,
    /// Batch size.
    #[arg(long, default_value_t = 128)]
    batch_size: usize,
    /// Highest learning rate.
    #[arg(long, default_value_t = 1e-3)]
    lr: f32,
    /// Decoupled weight decay of AdamW.
    #[arg(long, default_value_t = 0.1)]
    weight_decay: f32,
    /// Epochs over which the learning rate rises.
    #[arg(long, default_value_t = 2)]
    warmup_epochs: usize,
    /// Seed of weights, batches, captions and views.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Epochs between two measurements of retrieval on val.
    #[arg(long, default_value_t = 5)]
    evaluate_every: usize,
    /// Replace the run folder if it exists.
    #[arg(long)]
    pub force: bool,
}

/// A share of a whole, from 0 to below 1.
fn share(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(share) if (0.0..1.0).contains(&share) => Ok(share),
        _ => Err("expected a number from 0 to below 1".into()),
    }
}

impl Arguments {
    /// Returns all settings but the schedule's warm-up, which depends on the steps of an epoch.
    pub fn settings(&self, device: &Device) -> Result<Settings> {
        let (config, normalization) = match (&self.from, &self.architecture) {
            (Some(name), _) => {
                let model = Model::open(Some(name), ModelOptions::default(), device, |_| ())?;
                (model.config().clone(), model.normalization_values())
            }
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                let config = serde_json::from_str(&text)
                    .with_context(|| format!("{} is no architecture", path.display()))?;
                checkpoint::check_config(path, &config)?;
                (config, Normalization::OPENAI)
            }
            (None, None) => {
                let model = Model::open(None, ModelOptions::default(), device, |_| ())?;
                (model.config().clone(), Normalization::OPENAI)
            }
        };
        let patch_dropping = (self.drop_patches > 0.0).then_some(PatchDropping {
            share: self.drop_patches,
            whole_at_end: WHOLE_AT_END,
        });
        if !matches!(config.image, ImageTowerConfig::Vit(_)) {
            // A ResNet trains on the statistics of the batch; this one computes with those it was given.
            bail!(WrongUsage(
                "pretrain trains vision transformers; this image tower is a ResNet".into()
            ));
        }
        Ok(Settings {
            method: METHOD.into(),
            data: self.data.clone(),
            from: self.from.clone(),
            distill: self.distill.clone(),
            distill_weight: self.distill_weight,
            patch_dropping,
            batch_size: self.batch_size,
            warmup_epochs: self.warmup_epochs,
            seed: self.seed,
            evaluate_every: self.evaluate_every.max(1),
            fit: FitSettings {
                epochs: self.epochs,
                learning_rate: self.lr,
                optimizer: Optimizer::AdamW {
                    betas: [0.9, 0.98],
                    epsilon: 1e-6,
                    weight_decay: self.weight_decay,
                },
                schedule: Schedule::WarmupCosine { warmup_steps: 0 },
            },
            normalization,
            config,
        })
    }
}
