//! Pixel prompts: pixels learned on the picture itself, in front of a frozen model (Bahng et al. 2022, "Exploring Visual
//! Prompts for Adapting Large-Scale Models", §3; hjbahng/visual_prompting 679e71f).

use burn::tensor::{Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::source::{Source, Target};
use super::{Batch, Beginning, Learn, Lesson, MethodError, Prompt, Recipe, TrainingViews};
use crate::features::{LabelledFeatures, Sees};
use crate::model::Model;
use crate::train::{
    FitSettings, Initial, Optimizer, Parameters, Schedule, StepOutcome, TrainError,
};

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

impl PixelSettings {
    /// Side of the picture that is read, for a tower whose input has the side `image_size`.
    fn side(&self, image_size: usize) -> usize {
        match self.place {
            Place::Frame => image_size.saturating_sub(2 * self.size), // `check` refuses what leaves nothing
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

    fn fits(&self, image_size: usize) -> Result<(), MethodError> {
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
    fn check(&self, model: &Model) -> Result<(), MethodError> {
        self.fits(model.config().image.image_size())
    }

    fn begin(&self, lesson: &Lesson<'_>) -> Result<Beginning, MethodError> {
        let source = Source::of_model(lesson.model, lesson.class_names, &self.target, None)?;
        let prompt = PixelPrompt::new(self, source)?;
        let mut parameters = prompt.initial_parameters(lesson.seed, lesson.model.device());
        let prompted = |parameters: &Parameters, pixels| {
            prompt.prompted(parameters, pixels, &mut fixed_place())
        };
        prompt
            .source
            .begin(&self.target, lesson, &mut parameters, prompted)?;
        Ok(Beginning {
            prompt: Box::new(prompt),
            parameters,
        })
    }

    fn open(
        &self,
        model: &Model,
        class_names: &[String],
        parameters: &Parameters,
        stored: Option<Tensor<2>>,
    ) -> Result<Box<dyn Prompt>, MethodError> {
        self.check(model)?;
        let source = Source::of_model(model, class_names, &self.target, stored)?;
        for (name, shape) in self.parameters(source.image_size) {
            parameters.require(name, &shape)?;
        }
        source.check(parameters, class_names.len())?;
        Ok(Box::new(PixelPrompt::new(self, source)?))
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

    /// Adam, which needs no warm-up; chosen on one seed of two tasks of the icon benchmark.
    fn fast(&self, _shots: Option<usize>) -> Recipe {
        Recipe {
            batch_size: Some(32),
            fit: FitSettings {
                epochs: 30,
                learning_rate: 0.3,
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
        Sees::Pixels {
            side: self.side(model.config().image.image_size()),
            margin: true,
        }
    }

    fn takes_other_classes(&self) -> bool {
        matches!(self.target, Target::Words { .. })
    }
}

/// A frozen model that sees pictures with pixels on them.
#[derive(Debug)]
pub struct PixelPrompt {
    settings: PixelSettings,
    source: Source,
}

impl PixelPrompt {
    /// Pixels in front of `source`.
    ///
    /// # Errors
    /// More pixels than the picture has.
    pub fn new(settings: &PixelSettings, source: Source) -> Result<Self, MethodError> {
        settings.fits(source.image_size)?;
        Ok(Self {
            settings: settings.clone(),
            source,
        })
    }

    /// Pixels from N(0, 1).
    pub fn initial_parameters(&self, seed: u64, device: &Device) -> Parameters {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut parameters = Parameters::default();
        for (name, shape) in self.settings.parameters(self.source.image_size) {
            let values = Initial::Normal(1.0).draw(shape.iter().product(), &mut random);
            parameters.insert_data(name, &shape, values, device);
        }
        parameters
    }

    /// What the tower sees of `pixels` `[B, 3 · side · side]` in 0..1: `[B, 3, size, size]`. A patch without a fixed place is
    /// put at one drawn by `random`.
    fn prompted(
        &self,
        parameters: &Parameters,
        pixels: Tensor<2>,
        random: &mut ChaCha8Rng,
    ) -> Result<Tensor<4>, TrainError> {
        let (image_size, size) = (self.source.image_size, self.settings.size);
        let (batch, side) = (pixels.dims()[0], self.settings.side(image_size));
        let pixels = pixels.reshape([batch, 3, side, side]);
        let pixels = self.source.normalisation.forward(pixels);
        let prompt = match self.settings.place {
            Place::Frame => {
                let whole = |name: &str| {
                    let part = parameters.get::<4>(name)?;
                    let [_, _, height, width] = part.dims();
                    Ok::<_, TrainError>(part.expand([batch, 3, height, width]))
                };
                let middle = Tensor::cat(vec![whole(LEFT)?, pixels, whole(RIGHT)?], 3);
                return Ok(Tensor::cat(vec![whole(UP)?, middle, whole(DOWN)?], 2));
            }
            Place::Padding => {
                let inside = side - 2 * size;
                let nothing = Tensor::zeros([1, 3, inside, inside], &pixels.device());
                let sides = vec![parameters.get(LEFT)?, nothing, parameters.get(RIGHT)?];
                let middle = Tensor::cat(sides, 3);
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

/// A random patch lies where the first draw of a fixed seed puts it: the same picture always has the same logits. The official
/// code draws anew.
fn fixed_place() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(0)
}

/// A patch `[1, 3, p, p]` on a canvas of zeros `[1, 3, side, side]`, its upper left corner at `[row, column]`.
fn placed(patch: Tensor<4>, side: usize, [row, column]: [usize; 2]) -> Tensor<4> {
    let size = patch.dims()[2];
    let device = patch.device();
    let zeros = |height: usize, width: usize| Tensor::<4>::zeros([1, 3, height, width], &device);
    let strip = vec![
        zeros(size, column),
        patch,
        zeros(size, side - size - column),
    ];
    let strip = Tensor::cat(strip, 3);
    let rows = vec![zeros(row, side), strip, zeros(side - size - row, side)];
    Tensor::cat(rows, 2)
}

impl Prompt for PixelPrompt {
    fn logits(&self, parameters: &Parameters, pixels: Tensor<2>) -> Result<Tensor<2>, TrainError> {
        let prompted = self.prompted(parameters, pixels, &mut fixed_place())?;
        self.source.classify(parameters, prompted)
    }

    fn stored_features(&self, _parameters: &Parameters) -> Result<Option<Tensor<2>>, TrainError> {
        Ok(self.source.words())
    }

    fn picture(&self, parameters: &Parameters) -> Result<Option<Tensor<4>>, TrainError> {
        let side = self.settings.side(self.source.image_size);
        self.source.picture(side, |pixels| {
            self.prompted(parameters, pixels, &mut fixed_place())
        })
    }

    fn begin_epoch(
        &self,
        parameters: &mut Parameters,
        examples: &LabelledFeatures,
    ) -> Result<(), TrainError> {
        self.source.begin_epoch(
            &self.settings.target,
            examples,
            parameters,
            |parameters, pixels| self.prompted(parameters, pixels, &mut fixed_place()),
        )
    }

    fn step(&self, leaves: &Parameters, batch: &Batch) -> Result<StepOutcome, TrainError> {
        let pixels = batch.image_features.clone();
        let prompted = self.prompted(leaves, pixels, &mut batch.random())?;
        let outcome = batch.cross_entropy(self.source.classify(leaves, prompted)?, leaves);
        Ok(match self.settings.unit_gradient {
            true => outcome.with_unit_gradient(),
            false => outcome,
        })
    }
}
