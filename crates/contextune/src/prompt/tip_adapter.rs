//! Tip-Adapter: the training pictures themselves as a classifier beside the words (Zhang et al. 2022, "Tip-Adapter:
//! Training-free Adaption of CLIP for Few-shot Classification", §3), and Tip-Adapter-F, which learns their keys.
//!
//! logits = exp(s) · f̂ Wᵀ + α · exp(−β (1 − f̂ Fᵀ)) L

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::classification::TrainingViews;
use super::zeroshot::known_or_written;
use super::{Beginning, Learn, Lesson, MethodError, Prompt, Recipe};
use crate::evaluate::Accuracy;
use crate::features::LabelledFeatures;
use crate::indices::indices;
use crate::model::Model;
use crate::objective::similarity::{self, normalise};
use crate::train::{FitSettings, Optimizer, Parameters, Schedule, TrainError};

/// F, `[N, D]`: one feature of unit length for each training picture.
const KEYS: &str = "keys";
/// L, `[N, K]`: the class of each training picture.
const VALUES: &str = "values";
/// α, `[1]`.
const ALPHA: &str = "alpha";
/// β, `[1]`.
const BETA: &str = "beta";
/// α and β before they are searched (gaopengcuhk/Tip-Adapter, `configs/imagenet.yaml` and the data sets without their own).
const INITIAL: [f32; 2] = [1.17, 1.0];
/// The grid on which both are searched: steps, and the largest value but one step.
const SEARCHED_BETA: (usize, f32) = (200, 7.0);
const SEARCHED_ALPHA: (usize, f32) = (20, 3.0);
/// The smallest value on both grids.
const SEARCHED_FROM: f32 = 0.1;
/// Views whose mean is a key.
const VIEWS: usize = 10;
/// Crops of the official training transform have at least half of the picture's area.
const LEAST_AREA: u8 = 50;

/// The training pictures as they are.
pub type TipAdapterSettings = KeysSettings<false>;
/// The same with learned keys.
pub type TipAdapterFSettings = KeysSettings<true>;

/// Training pictures as a classifier, their keys learned or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysSettings<const LEARNED: bool> {
    /// Hand-written templates, one a line.
    pub templates: String,
}

impl<const LEARNED: bool> Learn for KeysSettings<LEARNED> {
    fn begin(&self, lesson: &Lesson<'_>) -> Result<Beginning, MethodError> {
        let mut beginning = begin(lesson, &self.templates)?;
        if !LEARNED {
            beginning.parameters.hold_constant(KEYS);
        }
        Ok(beginning)
    }

    fn finish(
        &self,
        lesson: &Lesson<'_>,
        prompt: &dyn Prompt,
        parameters: &mut Parameters,
    ) -> Result<(), MethodError> {
        search(lesson, prompt, parameters)
    }

    fn open(
        &self,
        model: &Model,
        class_names: &[String],
        _parameters: &Parameters,
        stored: Option<Tensor<2>>,
    ) -> Result<Box<dyn Prompt>, MethodError> {
        open(model, class_names, stored, &self.templates)
    }

    /// As gaopengcuhk/Tip-Adapter, `main.py`, except that of learned keys the last epoch counts: the official code reports the
    /// epoch that is best on the test pictures.
    fn published(&self, _shots: Option<usize>) -> Recipe {
        if !LEARNED {
            return Recipe {
                least_area: LEAST_AREA,
                views: TrainingViews::All { count: VIEWS },
                ..Recipe::without_steps()
            };
        }
        Recipe {
            batch_size: Some(256),
            least_area: LEAST_AREA,
            views: TrainingViews::Drawn { count: VIEWS },
            fit: FitSettings {
                epochs: 20,
                learning_rate: 1e-3,
                optimizer: Optimizer::AdamW {
                    betas: [0.9, 0.999],
                    epsilon: 1e-4,
                    weight_decay: 0.01,
                },
                schedule: Schedule::Cosine,
            },
        }
    }

    fn uses_validation(&self) -> bool {
        true
    }

    fn takes_other_classes(&self) -> bool {
        false
    }
}

/// Keys from the mean over the views of each training picture.
fn begin(lesson: &Lesson<'_>, templates: &str) -> Result<Beginning, MethodError> {
    let Lesson {
        model,
        class_names,
        train,
        ..
    } = *lesson;
    let device = model.device();
    let (pictures, views) = (train.pictures(), train.views());
    let every: Vec<(usize, usize)> = (0..pictures)
        .flat_map(|picture| (0..views).map(move |view| (picture, view)))
        .collect();
    let features = train.select(&every, device).map_err(TrainError::from)?; // [N·V, D]
    let mean = features
        .reshape([pictures, views, train.width()])
        .mean_dim(1) // [N, 1, D]
        .reshape([pictures, train.width()]);
    let classes = Tensor::<2>::eye(class_names.len(), device);
    let mut parameters = Parameters::default();
    parameters.insert(KEYS, normalise(mean));
    let values = classes.select(0, indices(train.labels().iter().copied(), device)); // [N, K]
    parameters.insert_constant(VALUES, values);
    set_search(&mut parameters, INITIAL, model);
    Ok(Beginning {
        prompt: open(model, class_names, None, templates)?,
        parameters,
    })
}

fn set_search(parameters: &mut Parameters, [alpha, beta]: [f32; 2], model: &Model) {
    for (name, value) in [(ALPHA, alpha), (BETA, beta)] {
        parameters.insert_constant(name, Tensor::<1>::from_floats([value], model.device()));
    }
}

fn open(
    model: &Model,
    class_names: &[String],
    stored: Option<Tensor<2>>,
    templates: &str,
) -> Result<Box<dyn Prompt>, MethodError> {
    Ok(Box::new(TipAdapter {
        words: known_or_written(stored, model, class_names, templates)?,
        logit_scale: model.logit_scale()?,
    }))
}

/// Words, and training pictures by their likeness.
#[derive(Debug)]
struct TipAdapter {
    /// W, `[K, D]`
    words: Tensor<2>,
    logit_scale: Tensor<1>,
}

impl Prompt for TipAdapter {
    fn logits(
        &self,
        parameters: &Parameters,
        image_features: Tensor<2>,
    ) -> Result<Tensor<2>, TrainError> {
        let keys = parameters.get::<2>(KEYS)?; // [N, D]
        let values = parameters.get::<2>(VALUES)?; // [N, K]
        let alpha = parameters.get::<1>(ALPHA)?.unsqueeze();
        let beta = parameters.get::<1>(BETA)?.unsqueeze();
        let likeness = normalise(image_features.clone()).matmul(keys.transpose()); // [B, N]
        let by_pictures = ((likeness - 1.0) * beta).exp().matmul(values); // [B, K]
        let (words, scale) = (self.words.clone(), self.logit_scale.clone());
        Ok(similarity::logits(image_features, words, scale) + by_pictures * alpha)
    }

    fn stored_features(&self, _parameters: &Parameters) -> Result<Option<Tensor<2>>, TrainError> {
        Ok(Some(self.words.clone()))
    }
}

/// α and β that are best on the validation pictures, the first of equals; without such pictures they stay.
fn search(
    lesson: &Lesson<'_>,
    prompt: &dyn Prompt,
    parameters: &mut Parameters,
) -> Result<(), MethodError> {
    let Some(val) = lesson.val else {
        return Ok(());
    };
    let grid = |(steps, upper): (usize, f32)| {
        (0..steps)
            .map(move |step| step as f32 * (upper - SEARCHED_FROM) / steps as f32 + SEARCHED_FROM)
    };
    let images = val
        .first_views(lesson.model.device())
        .map_err(TrainError::from)?;
    let mut at = |alpha: f32, beta: f32| -> Result<Vec<f32>, MethodError> {
        set_search(parameters, [alpha, beta], lesson.model);
        let logits = prompt.logits(parameters, images.clone())?;
        Ok(logits.into_data().try_to_vec().unwrap_or_default())
    };
    let mut best = (0, INITIAL);
    // The logits are linear in α, and without it those of the words: one evaluation for each β gives them all.
    let words = at(0.0, INITIAL[1])?;
    for beta in grid(SEARCHED_BETA) {
        let both = at(1.0, beta)?;
        for alpha in grid(SEARCHED_ALPHA) {
            let correct = correct_at(alpha, &words, &both, val, lesson.class_names.len());
            if correct > best.0 {
                best = (correct, [alpha, beta]);
            }
        }
    }
    set_search(parameters, best.1, lesson.model);
    Ok(())
}

/// Right answers of words + α (both − words).
fn correct_at(
    alpha: f32,
    words: &[f32],
    both: &[f32],
    val: &LabelledFeatures,
    classes: usize,
) -> usize {
    let logits: Vec<f32> = words
        .iter()
        .zip(both)
        .map(|(words, both)| words + alpha * (both - words))
        .collect();
    Accuracy::of(&logits, val.labels(), classes).correct
}
