//! Tip-Adapter: the training pictures themselves as a classifier beside the words (Zhang et al. 2022, "Tip-Adapter:
//! Training-free Adaption of CLIP for Few-shot Classification", §3), and Tip-Adapter-F, which learns their keys.
//!
//! logits = exp(s) · f̂ Wᵀ + α · exp(−β (1 − f̂ Fᵀ)) L

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::architecture::ModelConfig;
use crate::evaluate::Accuracy;
use crate::indices::indices;
use crate::input::Inputs;
use crate::method::text::zeroshot::known_or_written;
use crate::method::{Beginning, Lesson, Method, MethodError, Needs, Recipe};
use crate::model::Model;
use crate::objective::similarity::{self, normalise};
use crate::parameters::{ExpectedTensor, Parameters, Size, elements_of};
use crate::task::{Classify, Prompt, PromptError, TrainingViews};
use crate::train::{FitSettings, Optimizer, Schedule};

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

impl<const LEARNED: bool> Method for KeysSettings<LEARNED> {
    const NAME: &'static str = if LEARNED {
        "tip-adapter-f"
    } else {
        "tip-adapter"
    };

    type Task = Classify;

    fn needs(&self, _model: &ModelConfig) -> Needs {
        Needs::FEATURES_AND_WORDS
    }

    fn tensors(&self, model: &Model, classes: Size) -> Result<Vec<ExpectedTensor>, MethodError> {
        let width = Size::Exactly(model.config().embedding_width);
        let pictures = Size::Any('N');
        Ok(vec![
            ExpectedTensor::sized(KEYS, &[pictures, width]),
            ExpectedTensor::sized(VALUES, &[pictures, classes]),
            ExpectedTensor::new(ALPHA, &[1]),
            ExpectedTensor::new(BETA, &[1]),
        ])
    }

    fn begin(&self, lesson: &Lesson<'_, Classify>) -> Result<Beginning<Classify>, MethodError> {
        let mut beginning = begin(lesson, &self.templates)?;
        if !LEARNED {
            beginning.parameters.hold_constant(KEYS);
        }
        Ok(beginning)
    }

    fn finish(
        &self,
        lesson: &Lesson<'_, Classify>,
        prompt: &dyn Prompt<Classify>,
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
    ) -> Result<Box<dyn Prompt<Classify>>, MethodError> {
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
fn begin(
    lesson: &Lesson<'_, Classify>,
    templates: &str,
) -> Result<Beginning<Classify>, MethodError> {
    let Lesson {
        model,
        class_names,
        train,
        ..
    } = *lesson;
    let device = model.device();
    let inputs = &train.inputs;
    let (pictures, views, width) = (train.count(), inputs.views(), inputs.width());
    let features = inputs.all_features(device)?; // [N·V, D]
    let mean = features
        .reshape([pictures, views, width])
        .mean_dim(1) // [N, 1, D]
        .reshape([pictures, width]);
    let classes = Tensor::<2>::eye(class_names.len(), device);
    let mut parameters = Parameters::default();
    parameters.insert(KEYS, normalise(mean));
    let values = classes.select(0, indices(train.targets.iter().copied(), device)); // [N, K]
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
) -> Result<Box<dyn Prompt<Classify>>, MethodError> {
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

impl Prompt<Classify> for TipAdapter {
    fn forward(&self, parameters: &Parameters, inputs: &Inputs) -> Result<Tensor<2>, PromptError> {
        let image_features = inputs.features()?;
        let keys = parameters.get::<2>(KEYS)?; // [N, D]
        let values = parameters.get::<2>(VALUES)?; // [N, K]
        let alpha = parameters.get::<1>(ALPHA)?.unsqueeze();
        let beta = parameters.get::<1>(BETA)?.unsqueeze();
        let likeness = normalise(image_features.clone()).matmul(keys.transpose()); // [B, N]
        let by_pictures = ((likeness - 1.0) * beta).exp().matmul(values); // [B, K]
        let (words, scale) = (self.words.clone(), self.logit_scale.clone());
        Ok(similarity::logits(image_features, words, scale) + by_pictures * alpha)
    }

    fn stored_features(&self, _parameters: &Parameters) -> Result<Option<Tensor<2>>, PromptError> {
        Ok(Some(self.words.clone()))
    }
}

/// α and β that are best on the validation pictures, the first of equals; without such pictures they stay.
fn search(
    lesson: &Lesson<'_, Classify>,
    prompt: &dyn Prompt<Classify>,
    parameters: &mut Parameters,
) -> Result<(), MethodError> {
    let Some(val) = lesson.val else {
        return Ok(());
    };
    let grid = |(steps, upper): (usize, f32)| {
        (0..steps)
            .map(move |step| step as f32 * (upper - SEARCHED_FROM) / steps as f32 + SEARCHED_FROM)
    };
    let images = Inputs::Features(val.inputs.first_features(lesson.model.device())?); // [V, D]
    let mut at = |alpha: f32, beta: f32| -> Result<Vec<f32>, MethodError> {
        set_search(parameters, [alpha, beta], lesson.model);
        Ok(elements_of("logits", prompt.forward(parameters, &images)?)?)
    };
    let mut best = (0, INITIAL);
    // The logits are linear in α, and without it those of the words: one evaluation for each β gives them all.
    let words = at(0.0, INITIAL[1])?;
    for beta in grid(SEARCHED_BETA) {
        let both = at(1.0, beta)?;
        for alpha in grid(SEARCHED_ALPHA) {
            let correct = correct_at(alpha, &words, &both, &val.targets, lesson.class_names.len());
            if correct > best.0 {
                best = (correct, [alpha, beta]);
            }
        }
    }
    set_search(parameters, best.1, lesson.model);
    Ok(())
}

/// Right answers of words + α (both − words).
fn correct_at(alpha: f32, words: &[f32], both: &[f32], labels: &[usize], classes: usize) -> usize {
    let logits: Vec<f32> = words
        .iter()
        .zip(both)
        .map(|(words, both)| words + alpha * (both - words))
        .collect();
    Accuracy::of(&logits, labels, classes).correct
}
