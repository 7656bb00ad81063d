//! Contrastive pre-training of the towers that everything else freezes (Radford et al. 2021, §2.3).

mod batches;
mod captions;
mod initialise;

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use rand::seq::{SliceRandom, index};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::backbone::BackboneError;
use crate::backbone::{
    Clip, ImageTower, ModelConfig, PixelNormalisation, TextTower, TextTowerConfig,
};
use crate::image::{Picture, RandomResizedCrop};
use crate::indices::indices;
use crate::objective::contrastive;
use crate::parameters::{ParameterError, Parameters};
use crate::text::{Overlong, TextError, Tokenizer};
use crate::train::{Problem, Progress, Step, StepOutcome, TrainError};

pub use batches::batches;
pub use captions::Captions;
pub use initialise::Initialiser;

/// exp of the logit scale never exceeds this (Radford et al. 2021, §2.5).
const HIGHEST_LOGIT_SCALE: f32 = 100.0;
/// Longest caption in tokens; what is longer is cut, as nothing that matters stands so late.
const CAPTION_LENGTH: usize = 24;
/// Streams of random numbers from here on belong to steps, those below to the order of epochs.
const STEPS: u64 = 1 << 63;

/// A picture, decoded to RGB, with its name and captions.
#[derive(Clone, Debug)]
pub struct CaptionedPicture {
    /// The pixels.
    pub picture: Picture,
    /// Number of its name; pictures of one name never share a batch.
    pub name: usize,
    /// What may stand below it.
    pub captions: Captions,
}

/// Features of frozen teachers that the towers imitate besides finding each other.
#[derive(Debug)]
pub struct Distillation {
    /// What the image tower imitates, if anything.
    pub images: Option<ImageTeacher>,
    /// What the text tower imitates, if anything.
    pub texts: Option<TextTeacher>,
    /// Factor of the imitation losses beside the contrastive one.
    pub weight: f32,
}

/// Features of pictures, of any width: a linear map from the joint space to the teacher's, [`IMAGE_TEACHER_HEAD`], is
/// trained along and is no part of the model.
#[derive(Debug)]
pub struct ImageTeacher {
    /// The teacher's features, `[T, W]`.
    pub targets: Tensor<2>,
    /// Row in `targets` of each training picture; the teacher need not know all of them.
    pub rows: Vec<Option<usize>>,
}

/// Features of texts, as wide as the joint space. A step imitates texts of about equal length: none is padded.
#[derive(Debug)]
pub struct TextTeacher {
    /// Texts, tokenised, shortest first.
    texts: Vec<Vec<u32>>,
    /// The teacher's features of these texts, `[M, D]`.
    targets: Tensor<2>,
    batch_size: usize,
}

/// Name of the map from the joint space to the image teacher's, `[D, W]`, among the trained parameters.
pub const IMAGE_TEACHER_HEAD: &str = "image_teacher_head";

/// Contrastive training of a CLIP on captioned pictures.
#[derive(Debug)]
pub struct Pretraining {
    config: ModelConfig,
    text: TextTowerConfig,
    normalisation: PixelNormalisation,
    tokenizer: Arc<Tokenizer>,
    pictures: Vec<CaptionedPicture>,
    names: Vec<usize>,
    views: RandomResizedCrop,
    patch_dropping: Option<PatchDropping>,
    distillation: Option<Distillation>,
    batch_size: usize,
    seed: u64,
    device: Device,
}

/// Training on some patches of each picture (Li et al. 2023), and on all of them in the end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PatchDropping {
    /// Share of the patches that a step leaves out, from 0 to below 1.
    pub share: f32,
    /// Share of the run, at its end, with all patches, 0 to 1.
    pub whole_at_end: f32,
}

/// What [`Pretraining`] works with.
#[derive(Debug)]
pub struct PretrainingSettings {
    /// The architecture.
    pub config: ModelConfig,
    /// That of its text tower.
    pub text: TextTowerConfig,
    /// What the image tower is to expect of its pixels.
    pub normalisation: PixelNormalisation,
    /// As large as the text tower's vocabulary.
    pub tokenizer: Arc<Tokenizer>,
    /// How training pictures are cropped and mirrored.
    pub views: RandomResizedCrop,
    /// Patches left out of training pictures, if any; vision transformers only.
    pub patch_dropping: Option<PatchDropping>,
    /// Teachers, if any.
    pub distillation: Option<Distillation>,
    /// Pictures in a step.
    pub batch_size: usize,
    /// Seed of batches, captions and views.
    pub seed: u64,
    /// Where to compute.
    pub device: Device,
}

impl Pretraining {
    /// Pictures to learn from; at least a batch of them with different names.
    pub fn new(settings: PretrainingSettings, pictures: Vec<CaptionedPicture>) -> Self {
        Self {
            config: settings.config,
            text: settings.text,
            normalisation: settings.normalisation,
            tokenizer: settings.tokenizer,
            names: pictures.iter().map(|picture| picture.name).collect(),
            pictures,
            views: settings.views,
            patch_dropping: settings.patch_dropping,
            distillation: settings.distillation,
            batch_size: settings.batch_size,
            seed: settings.seed,
            device: settings.device,
        }
    }

    /// Random view of each picture, normalised: `[B, 3, size, size]`.
    fn pixels(&self, batch: &[usize], random: &mut ChaCha8Rng) -> Tensor<4> {
        let size = self.config.image.image_size();
        let views: Vec<_> = batch
            .iter()
            .map(|&index| {
                let picture = &self.pictures[index].picture;
                (
                    picture,
                    self.views.draw(picture.width(), picture.height(), random),
                )
            })
            .collect();
        let mut pixels = vec![0.0; batch.len() * 3 * size * size];
        pixels
            .par_chunks_mut(3 * size * size)
            .zip(views)
            .for_each(|(pixels, (picture, view))| {
                let view = view.apply(picture, size as u32);
                for (pixel, &byte) in pixels.iter_mut().zip(view.as_bytes()) {
                    *pixel = f32::from(byte) / 255.0;
                }
            });
        let pixels = TensorData::new(pixels, [batch.len(), 3, size, size]);
        self.normalisation
            .forward(Tensor::from_data(pixels, &self.device))
    }

    /// Normalised pixels `[B, 3, size, size]` -> image features `[B, D]`, from some patches while patches are dropped.
    fn encode(
        &self,
        tower: &ImageTower,
        pixels: Tensor<4>,
        progress: Progress,
        random: &mut ChaCha8Rng,
    ) -> Tensor<2> {
        let done = progress.step as f32 / progress.steps as f32;
        match (tower, self.patch_dropping) {
            (ImageTower::Vit(tower), Some(dropping)) if done < 1.0 - dropping.whole_at_end => {
                let all = tower.patches();
                let kept = ((1.0 - dropping.share) * all as f32).ceil() as usize;
                let kept: Vec<Vec<usize>> = (0..pixels.dims()[0])
                    .map(|_| index::sample(random, all, kept).into_vec())
                    .collect();
                tower.forward_patches(pixels, &kept)
            }
            (tower, _) => tower.forward(pixels),
        }
    }

    fn captions(
        &self,
        batch: &[usize],
        random: &mut ChaCha8Rng,
    ) -> Result<Vec<Vec<u32>>, TextError> {
        let limit = CAPTION_LENGTH.min(self.text.context_length);
        batch
            .iter()
            .map(|&index| {
                let caption = self.pictures[index].captions.draw(random);
                self.tokenizer.tokenize(&caption, limit, Overlong::Truncate)
            })
            .collect()
    }
}

/// Why pre-training cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PretrainError {
    /// The loop.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The parameters do not fit the towers.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    /// A caption does not fit the text tower.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// A caption that the tokenizer refuses.
    #[error(transparent)]
    Text(#[from] TextError),
}

impl Problem for Pretraining {
    /// Numbers of the pictures; crops and captions are drawn from the random numbers of the step.
    type Batch = Vec<usize>;
    type Error = PretrainError;

    fn steps(&self) -> usize {
        self.batches(0).len()
    }

    fn batches(&self, epoch: usize) -> Vec<Vec<usize>> {
        batches(&self.names, self.batch_size, self.seed, epoch)
    }

    fn load(&self, batch: &[usize]) -> Result<Vec<usize>, PretrainError> {
        Ok(batch.to_vec())
    }

    fn step(
        &self,
        parameters: &Parameters,
        step: Step<Vec<usize>>,
    ) -> Result<StepOutcome, PretrainError> {
        let Step { progress, batch } = step;
        let batch = &batch[..];
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(STEPS | progress.step as u64);
        let pixels = self.pixels(batch, &mut random);
        let captions = self.captions(batch, &mut random)?;

        let clip = Clip::build(&mut &*parameters, &self.config, &self.text)?;
        let images = self.encode(&clip.image, pixels, progress, &mut random); // [B, D]
        let texts = clip.text.encode_tokens(&captions)?; // [B, D]
        let (mut loss, correct) =
            contrastive::symmetric_loss(images.clone(), texts, clip.logit_scale.clone());
        if let Some(distillation) = &self.distillation {
            if let Some(teacher) = &distillation.images
                && let Some((pupils, targets)) = teacher.pairs(images, batch, parameters)?
            {
                loss = loss + contrastive::distillation_loss(pupils, targets) * distillation.weight;
            }
            if let Some(teacher) = &distillation.texts {
                let (pupils, targets) = teacher.pairs(&clip.text, &mut random)?;
                loss = loss + contrastive::distillation_loss(pupils, targets) * distillation.weight;
            }
        }
        Ok(StepOutcome::backward(
            loss,
            parameters,
            correct,
            batch.len(),
        ))
    }

    fn constrain(&self, parameters: &mut Parameters) {
        parameters.update(|name, _, value| match name {
            "logit_scale" => value.clamp_max(HIGHEST_LOGIT_SCALE.ln()),
            _ => value,
        });
    }
}

impl ImageTeacher {
    /// Image features `[B, D]` in the teacher's space, and the teacher's own, both `[K, W]`, of the K pictures of the
    /// batch that the teacher knows; `None` if it knows none.
    fn pairs(
        &self,
        images: Tensor<2>,
        batch: &[usize],
        parameters: &Parameters,
    ) -> Result<Option<(Tensor<2>, Tensor<2>)>, ParameterError> {
        let (places, rows): (Vec<usize>, Vec<usize>) = batch
            .iter()
            .enumerate()
            .filter_map(|(place, &picture)| Some((place, self.rows[picture]?)))
            .unzip();
        if rows.is_empty() {
            return Ok(None);
        }
        let device = self.targets.device();
        let head = parameters.get::<2>(IMAGE_TEACHER_HEAD)?; // [D, W]
        let pupils = images.select(0, indices(places, &device)).matmul(head);
        let targets = self.targets.clone().select(0, indices(rows, &device));
        Ok(Some((pupils, targets)))
    }
}

impl TextTeacher {
    /// The teacher's features `targets` `[M, D]` of M tokenised texts, of which a step imitates `batch_size`; no picture
    /// belongs to them.
    pub fn new(texts: Vec<Vec<u32>>, targets: Tensor<2>, batch_size: usize, seed: u64) -> Self {
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        order.sort_by_key(|&text| texts[text].len());
        let rows = indices(order.iter().copied(), &targets.device());
        Self {
            texts: order.iter().map(|&text| texts[text].clone()).collect(),
            targets: targets.select(0, rows),
            batch_size: batch_size.min(texts.len()),
        }
    }

    /// Text features of some texts and the teacher's features of them, both `[M, D]`.
    fn pairs(
        &self,
        tower: &TextTower,
        random: &mut ChaCha8Rng,
    ) -> Result<(Tensor<2>, Tensor<2>), BackboneError> {
        let start = random.random_range(0..=self.texts.len() - self.batch_size);
        let texts = &self.texts[start..start + self.batch_size];
        let pupils = tower.encode_tokens(texts)?;
        let targets = self.targets.clone().narrow(0, start, self.batch_size);
        Ok((pupils, targets))
    }
}
