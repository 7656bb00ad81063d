//! Pixel prompts: pixels learned on the picture itself, in front of a frozen model (Bahng et al. 2022, "Exploring Visual
//! Prompts for Adapting Large-Scale Models", §3; hjbahng/visual_prompting 679e71f).

use burn::tensor::Tensor;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::source::{OnPixels, Source, Target, framed, on_canvas};
use crate::method::{Recipe, SettingError};
use crate::parameters::{Initial, Parameters};
use crate::task::{Batch, Classify, PromptError, TrainingViews};
use crate::train::{FitSettings, Optimizer, Schedule, StepOutcome};

/// Official names of the parameters.
const UP: &str = "pad_up";
const DOWN: &str = "pad_down";
const LEFT: &str = "pad_left";
const RIGHT: &str = "pad_right";
const PATCH: &str = "patch";

/// Pixels on a picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PixelSettings {
    /// Where the pixels are.
    pub place: Place,
    /// Width of the border, or side of the patch.
    pub size: usize,
    /// Whether the gradient of all pixels together is divided by its norm before the optimiser sees it (Wu et al. 2022,
    /// "Unleashing the Power of Visual Prompting At the Pixel Level", §3).
    pub unit_gradient: bool,
    /// What the model's outputs mean.
    pub target: Target,
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

impl OnPixels for PixelSettings {
    const NAME: &'static str = "pixel";

    const MARGIN: bool = true;

    fn target(&self) -> &Target {
        &self.target
    }

    fn side(&self, image_size: usize) -> usize {
        match self.place {
            Place::Frame => image_size.saturating_sub(2 * self.size), // `fits` refuses what leaves nothing
            _ => image_size,
        }
    }

    fn fits(&self, image_size: usize) -> Result<(), SettingError> {
        let most = match self.place {
            Place::Padding | Place::Frame => (image_size - 1) / 2,
            Place::FixedPatch => image_size,
            Place::RandomPatch => image_size - 1,
        };
        match (1..=most).contains(&self.size) {
            true => Ok(()),
            false => Err(SettingError::new(
                "size",
                format!(
                    "is {}; on pictures of {image_size} × {image_size} pixels 1 to {most} is possible",
                    self.size
                ),
            )),
        }
    }

    fn parameters(&self, image_size: usize) -> Vec<(&'static str, [usize; 4], Initial)> {
        let size = self.size;
        let shapes = match self.place {
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
        };
        let random = |(name, shape)| (name, shape, Initial::Normal(1.0));
        shapes.into_iter().map(random).collect()
    }

    fn prompted(
        &self,
        source: &Source,
        parameters: &Parameters,
        pixels: Tensor<4>,
        random: &mut ChaCha8Rng,
    ) -> Result<Tensor<4>, PromptError> {
        let (image_size, size) = (source.image_size, self.size);
        let (batch, side) = (pixels.dims()[0], self.side(image_size));
        let pixels = source.normalisation.forward(pixels);
        let border = |pictures: usize| {
            let strip = |name: &str| {
                let part = parameters.get::<4>(name)?;
                let [_, _, height, width] = part.dims();
                Ok::<_, PromptError>(part.expand([pictures, 3, height, width]))
            };
            Ok::<_, PromptError>([strip(UP)?, strip(DOWN)?, strip(LEFT)?, strip(RIGHT)?])
        };
        let prompt = match self.place {
            Place::Frame => return Ok(framed(pixels, border(batch)?)),
            Place::Padding => {
                let inside = side - 2 * size;
                let nothing = Tensor::zeros([1, 3, inside, inside], &pixels.device());
                framed(nothing, border(1)?)
            }
            Place::FixedPatch => on_canvas(parameters.get(PATCH)?, image_size, [0, 0]),
            Place::RandomPatch => {
                let mut draw = || random.random_range(0..image_size - size);
                on_canvas(parameters.get(PATCH)?, image_size, [draw(), draw()])
            }
        }; // [1, 3, size, size]
        Ok(pixels + prompt)
    }

    fn step(
        &self,
        leaves: &Parameters,
        batch: &Batch<Classify>,
        logits: Tensor<2>,
    ) -> Result<StepOutcome, PromptError> {
        let outcome = batch.outcome(logits, leaves);
        Ok(match self.unit_gradient {
            true => outcome.with_unit_gradient(),
            false => outcome,
        })
    }

    /// `main_clip.py` of hjbahng/visual_prompting: 256 pictures a step, 1,000 epochs at the rate 40.
    fn published(&self) -> Recipe {
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

    /// Adam, which needs no warm-up; chosen on one seed of two tasks of the icon benchmark.
    fn fast(&self) -> Recipe {
        Recipe {
            batch_size: Some(32),
            fit: FitSettings {
                epochs: 30,
                learning_rate: 0.3,
                optimizer: Optimizer::ADAM,
                schedule: Schedule::Cosine,
            },
            ..self.published()
        }
    }
}
