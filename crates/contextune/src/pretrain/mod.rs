//! Contrastive pre-training of the towers that everything else freezes (Radford et al. 2021, §2.3).

mod batches;
mod captions;
mod initialise;

use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::backbone::{Clip, ClipConfig, PixelNormalisation};
use crate::image::{Picture, RandomResizedCrop};
use crate::objective::contrastive;
use crate::text::{Overlong, TextError, Tokenizer};
use crate::train::{Parameters, StepLoss, Task, TrainError};

pub use batches::batches;
pub use captions::Captions;
pub use initialise::Initialiser;

/// exp of the logit scale never exceeds this (Radford et al. 2021, §2.5).
const HIGHEST_LOGIT_SCALE: f32 = 100.0;
/// Longest caption in tokens; what is longer is cut, as nothing that matters stands so late.
const CAPTION_LENGTH: usize = 24;

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

/// Features of frozen teachers that the towers imitate besides finding each other; as wide as the joint space.
#[derive(Debug)]
pub struct Distillation {
    /// The teacher's features of the training pictures, `[N, D]`, row i for picture i; absent: images learn from
    /// texts alone.
    pub image_targets: Option<Tensor<2>>,
    /// Texts with teacher features, tokenised; no picture belongs to them.
    pub texts: Vec<Vec<u32>>,
    /// The teacher's features of these texts, `[M, D]`.
    pub text_targets: Tensor<2>,
    /// Texts in each step.
    pub text_batch: usize,
    /// Factor of the imitation losses beside the contrastive one.
    pub weight: f32,
}

/// Contrastive training of a CLIP on captioned pictures.
#[derive(Debug)]
pub struct Pretraining {
    config: ClipConfig,
    normalisation: PixelNormalisation,
    tokenizer: Tokenizer,
    pictures: Vec<CaptionedPicture>,
    names: Vec<usize>,
    views: RandomResizedCrop,
    distillation: Option<Distillation>,
    batch_size: usize,
    seed: u64,
    device: Device,
}

/// What [`Pretraining`] works with.
#[derive(Debug)]
pub struct PretrainingSettings {
    /// The architecture.
    pub config: ClipConfig,
    /// What the image tower is to expect of its pixels.
    pub normalisation: PixelNormalisation,
    /// As large as the text tower's vocabulary.
    pub tokenizer: Tokenizer,
    /// How training pictures are cropped and mirrored.
    pub views: RandomResizedCrop,
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
            normalisation: settings.normalisation,
            tokenizer: settings.tokenizer,
            names: pictures.iter().map(|picture| picture.name).collect(),
            pictures,
            views: settings.views,
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

    fn captions(
        &self,
        batch: &[usize],
        random: &mut ChaCha8Rng,
    ) -> Result<Vec<Vec<u32>>, TextError> {
        let limit = CAPTION_LENGTH.min(self.config.text.context_length);
        batch
            .iter()
            .map(|&index| {
                let caption = self.pictures[index].captions.draw(random);
                self.tokenizer.tokenize(&caption, limit, Overlong::Truncate)
            })
            .collect()
    }
}

impl Task for Pretraining {
    fn steps(&self) -> usize {
        batches(&self.names, self.batch_size, self.seed, 0).len()
    }

    fn loss(
        &self,
        parameters: &Parameters,
        epoch: usize,
        step: usize,
    ) -> Result<StepLoss, TrainError> {
        let mut epoch_batches = batches(&self.names, self.batch_size, self.seed, epoch);
        let batch = epoch_batches.swap_remove(step);
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream((epoch as u64) << 32 | (step as u64 + 1));
        let pixels = self.pixels(&batch, &mut random);
        let captions = self
            .captions(&batch, &mut random)
            .map_err(|error| TrainError::Observer(Box::new(error)))?;

        let clip = Clip::build(&mut &*parameters, &self.config)?;
        let images = clip.image.forward(pixels); // [B, D]
        let texts = clip.text.encode_tokens(&captions)?; // [B, D]
        let (mut loss, correct) =
            contrastive::symmetric_loss(images.clone(), texts, clip.logit_scale.clone());
        if let Some(teacher) = &self.distillation {
            if let Some(targets) = &teacher.image_targets {
                let targets = targets.clone().select(0, rows(&batch, &self.device));
                loss = loss + contrastive::distillation_loss(images, targets) * teacher.weight;
            }
            let corpus: Vec<usize> = (0..teacher.text_batch)
                .map(|_| random.random_range(0..teacher.texts.len()))
                .collect();
            let prompts: Vec<_> = corpus
                .iter()
                .map(|&text| teacher.texts[text].clone())
                .collect();
            let texts = clip.text.encode_tokens(&prompts)?;
            let targets = teacher
                .text_targets
                .clone()
                .select(0, rows(&corpus, &self.device));
            loss = loss + contrastive::distillation_loss(texts, targets) * teacher.weight;
        }
        Ok(StepLoss {
            loss,
            correct,
            examples: batch.len(),
        })
    }

    fn constrain(&self, parameters: &mut Parameters) {
        parameters.update(|name, _, value| match name {
            "logit_scale" => value.clamp_max(HIGHEST_LOGIT_SCALE.ln()),
            _ => value,
        });
    }
}

fn rows(indices: &[usize], device: &Device) -> Tensor<1, burn::tensor::Int> {
    let indices: Vec<i64> = indices.iter().map(|&index| index as i64).collect();
    let count = indices.len();
    Tensor::from_data(TensorData::new(indices, [count]), device)
}
