//! Pixel prompts: pixels learned on the picture itself, in front of a frozen model (Bahng et al. 2022, "Exploring Visual
//! Prompts for Adapting Large-Scale Models", §3; hjbahng/visual_prompting 679e71f).

use burn::tensor::Tensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::zeroshot::known_or_written;
use super::{Batch, Beginning, Learn, Lesson, MethodError, Prompt, Recipe, TrainingViews};
use crate::backbone::{ImageTower, PixelNormalisation};
use crate::features::Sees;
use crate::model::Model;
use crate::objective::similarity;
use crate::train::{FitSettings, Optimizer, Parameters, Schedule, StepOutcome, TrainError};

/// Official names of the parameters.
const UP: &str = "pad_up";
const DOWN: &str = "pad_down";
const LEFT: &str = "pad_left";
const RIGHT: &str = "pad_right";
const PATCH: &str = "patch";

/// Pixels on a picture, in front of a model that compares it with words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PixelSettings {
    /// Where the pixels are.
    pub place: Place,
    /// Width of the border, or side of the patch.
    pub size: usize,
    /// Hand-written templates, one a line.
    pub templates: String,
}

/// Where the pixels of a prompt are. They are added to the normalised picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// A border.
    #[default]
    Padding,
    /// The border around the picture, which is made smaller by as much: nothing of it is covered.
    Frame,
    /// A square in the upper left corner.
    FixedPatch,
    /// A square at another place for every batch.
    RandomPatch,
}

impl PixelSettings {
    /// Side of the picture that is read, for a tower whose input has the side `image_size`.
    fn side(&self, image_size: usize) -> usize {
        match self.place {
            Place::Frame => image_size.saturating_sub(2 * self.size),
            _ => image_size,
        }
    }

    /// Name and shape of what is learned.
    fn parameters(&self, image_size: usize) -> Vec<(&'static str, [usize; 4])> {
        let size = self.size;
        match self.place {
            Place::Padding | Place::Frame => {
                let inside = image_size - 2 * size;
                vec![
                    (DOWN, [1, 3, size, image_size]),
                    (LEFT, [1, 3, inside, size]),
                    (RIGHT, [1, 3, inside, size]),
                    (UP, [1, 3, size, image_size]),
                ]
            }
            Place::FixedPatch | Place::RandomPatch => vec![(PATCH, [1, 3, size, size])],
        }
    }

    fn check(&self, image_size: usize) -> Result<(), MethodError> {
        let most = match self.place {
            Place::Padding | Place::Frame => (image_size - 1) / 2,
            Place::FixedPatch => image_size,
            Place::RandomPatch => image_size - 1,
        };
        match (1..=most).contains(&self.size) {
            true => Ok(()),
            false => Err(MethodError::Combination(format!(
                "--size is {}; on pictures of {image_size} × {image_size} pixels 1 to {most} is possible",
                self.size
            ))),
        }
    }
}

impl Learn for PixelSettings {
    fn begin(&self, lesson: &Lesson<'_>) -> Result<Beginning, MethodError> {
        let prompt = PixelPrompt::of_model(lesson.model, lesson.class_names, self, None)?;
        let parameters = prompt.initial_parameters(lesson.seed);
        Ok(Beginning {
            prompt: Box::new(prompt),
            parameters,
        })
    }

    fn open(
        &self,
        model: &Model,
        class_names: &[String],
        _parameters: &Parameters,
        stored: Option<Tensor<2>>,
    ) -> Result<Box<dyn Prompt>, MethodError> {
        Ok(Box::new(PixelPrompt::of_model(
            model,
            class_names,
            self,
            stored,
        )?))
    }

    /// `main_clip.py` of hjbahng/visual_prompting: 256 pictures a step, 1,000 epochs at the rate 40.
    fn published(&self, _shots: Option<usize>) -> Recipe {
        Recipe {
            batch_size: Some(256),
            least_area: 8,
            views: TrainingViews::Whole,
            fit: FitSettings {
                epochs: 1000,
                learning_rate: 40.0,
                optimizer: Optimizer::Sgd {
                    momentum: 0.9,
                    weight_decay: 0.0,
                },
                schedule: Schedule::WarmupCosine { warmup_steps: 1000 },
            },
        }
    }

    fn fast(&self, _shots: Option<usize>) -> Recipe {
        Recipe {
            batch_size: Some(32),
            fit: FitSettings {
                epochs: 30,
                learning_rate: 0.1,
                optimizer: Optimizer::Adam {
                    betas: [0.9, 0.999],
                    epsilon: 1e-8,
                    weight_decay: 0.0,
                },
                schedule: Schedule::Cosine,
            },
            ..self.published(None)
        }
    }

    fn sees(&self, model: &Model) -> Sees {
        Sees::Pixels(self.side(model.config().image.image_size()))
    }
}

/// A frozen model that sees pictures with pixels on them.
#[derive(Debug)]
pub struct PixelPrompt {
    settings: PixelSettings,
    model: Comparing,
}

/// A frozen model that compares pictures with words.
#[derive(Clone, Debug)]
pub struct Comparing {
    /// Pictures to features.
    pub tower: ImageTower,
    /// Side of the tower's input.
    pub image_size: usize,
    /// In front of it.
    pub normalisation: PixelNormalisation,
    /// Features of the classes, `[K, D]`: words do not change, so they are encoded once.
    pub words: Tensor<2>,
    /// Logarithm of the factor on the cosine, `[1]`.
    pub logit_scale: Tensor<1>,
}

impl PixelPrompt {
    /// Pixels in front of `model`.
    ///
    /// # Errors
    /// More pixels than the picture has.
    pub fn new(settings: &PixelSettings, model: Comparing) -> Result<Self, MethodError> {
        settings.check(model.image_size)?;
        Ok(Self {
            settings: settings.clone(),
            model,
        })
    }

    /// Pixels from N(0, 1).
    pub fn initial_parameters(&self, seed: u64) -> Parameters {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut parameters = Parameters::default();
        for (name, shape) in self.settings.parameters(self.model.image_size) {
            let values = StandardNormal
                .sample_iter(&mut random)
                .take(shape.iter().product())
                .collect();
            parameters.insert_data(name, &shape, values, &self.model.words.device());
        }
        parameters
    }

    fn of_model(
        model: &Model,
        class_names: &[String],
        settings: &PixelSettings,
        words: Option<Tensor<2>>,
    ) -> Result<Self, MethodError> {
        let comparing = Comparing {
            tower: model.image_tower()?,
            image_size: model.config().image.image_size(),
            normalisation: model.normalisation(),
            words: known_or_written(words, model, class_names, &settings.templates)?,
            logit_scale: model.logit_scale()?,
        };
        Self::new(settings, comparing)
    }

    /// `pixels` `[B, 3 · side · side]` in 0..1 -> `[B, K]`; a patch without a fixed place is put at one drawn by `random`.
    fn forward(
        &self,
        parameters: &Parameters,
        pixels: Tensor<2>,
        random: &mut ChaCha8Rng,
    ) -> Result<Tensor<2>, TrainError> {
        let (batch, side) = (pixels.dims()[0], self.settings.side(self.model.image_size));
        let pixels = self
            .model
            .normalisation
            .forward(pixels.reshape([batch, 3, side, side]));
        let prompted = self.prompted(parameters, pixels, random)?; // [B, 3, size, size]
        let images = self.model.tower.forward(prompted); // [B, D]
        let (words, scale) = (self.model.words.clone(), self.model.logit_scale.clone());
        Ok(similarity::logits(images, words, scale))
    }

    /// Normalised pictures `[B, 3, side, side]` -> what the tower sees.
    fn prompted(
        &self,
        parameters: &Parameters,
        pixels: Tensor<4>,
        random: &mut ChaCha8Rng,
    ) -> Result<Tensor<4>, TrainError> {
        let [batch, _, side, _] = pixels.dims();
        let (image_size, size) = (self.model.image_size, self.settings.size);
        let prompt = match self.settings.place {
            Place::Frame => {
                let whole = |name: &str| {
                    let [_, _, height, width] = parameters.get::<4>(name)?.dims();
                    let part = parameters.get::<4>(name)?;
                    Ok::<_, TrainError>(part.expand([batch, 3, height, width]))
                };
                let middle = Tensor::cat(vec![whole(LEFT)?, pixels, whole(RIGHT)?], 3);
                return Ok(Tensor::cat(vec![whole(UP)?, middle, whole(DOWN)?], 2));
            }
            Place::Padding => {
                let nothing =
                    Tensor::zeros([1, 3, side - 2 * size, side - 2 * size], &pixels.device());
                let sides = [parameters.get(LEFT)?, nothing, parameters.get(RIGHT)?];
                let middle = Tensor::cat(sides.to_vec(), 3);
                Tensor::cat(vec![parameters.get(UP)?, middle, parameters.get(DOWN)?], 2)
            }
            Place::FixedPatch => placed(parameters.get(PATCH)?, image_size, [0, 0]),
            Place::RandomPatch => {
                let mut draw = || random.random_range(0..image_size - size);
                placed(parameters.get(PATCH)?, image_size, [draw(), draw()])
            }
        }; // [1, 3, size, size]
        Ok(pixels + prompt)
    }
}

/// A patch `[1, 3, p, p]` on a canvas of zeros `[1, 3, side, side]`, its upper left corner at `[row, column]`.
fn placed(patch: Tensor<4>, side: usize, [row, column]: [usize; 2]) -> Tensor<4> {
    let size = patch.dims()[2];
    let zeros =
        |height: usize, width: usize| Tensor::<4>::zeros([1, 3, height, width], &patch.device());
    let strip = vec![
        zeros(size, column),
        patch.clone(),
        zeros(size, side - size - column),
    ];
    let strip = Tensor::cat(strip, 3);
    Tensor::cat(
        vec![zeros(row, side), strip, zeros(side - size - row, side)],
        2,
    )
}

impl Prompt for PixelPrompt {
    /// A random patch is put where the first draw of a fixed seed puts it: the same picture always has the same logits. The
    /// official code draws anew.
    fn logits(&self, parameters: &Parameters, pixels: Tensor<2>) -> Result<Tensor<2>, TrainError> {
        self.forward(parameters, pixels, &mut ChaCha8Rng::seed_from_u64(0))
    }

    fn stored_features(&self, _parameters: &Parameters) -> Result<Option<Tensor<2>>, TrainError> {
        Ok(Some(self.model.words.clone()))
    }

    fn step(&self, leaves: &Parameters, batch: &Batch) -> Result<StepOutcome, TrainError> {
        let pixels = batch.image_features.clone();
        let logits = self.forward(leaves, pixels, &mut batch.random())?;
        Ok(batch.cross_entropy(logits, leaves))
    }
}
