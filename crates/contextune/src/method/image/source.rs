//! What a prompt made of pixels stands in front of: a frozen model, and how its outputs become the task's classes.

use std::fmt::Debug;

use burn::tensor::{Device, Int, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::architecture::ModelConfig;
use crate::backbone::{ImageTower, PixelNormalisation};
use crate::evaluate::largest;
use crate::indices::indices;
use crate::input::{Examples, InputKind, Inputs, PICTURES_AT_ONCE};
use crate::method::text::zeroshot::known_or_written;
use crate::method::{Beginning, Lesson, Method, MethodError, Needs, Recipe, SettingError};
use crate::model::Model;
use crate::objective::label_map::{self, LabelMapping};
use crate::objective::{linear_head, similarity};
use crate::parameters::{ExpectedTensor, Initial, Parameters, Size, elements_of};
use crate::task::{Batch, Classify, Prompt, PromptError};
use crate::train::StepOutcome;

/// Name of the label of each class, `[K]`, a constant among the parameters.
const LABEL_MAP: &str = "label_map";

/// How a frozen model's outputs become the task's classes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Target {
    /// A class is what its words say: models with a text tower.
    Words {
        /// Hand-written templates, one a line.
        templates: String,
    },
    /// A class is one of the labels that the model was pretrained with.
    Labels {
        /// Which.
        mapping: LabelMapping,
    },
}

impl Target {
    /// Returns what a method with these outputs needs of a model, given pixels of a square with this side.
    pub fn needs(&self, side: usize, margin: bool) -> Needs {
        let mut needs = Needs::pixels(side);
        needs.input = InputKind::Pixels { side, margin };
        match self {
            Self::Words { .. } => needs.text_tower = true,
            Self::Labels { .. } => needs.pretrained_labels = true,
        }
        needs
    }
}

/// A frozen model.
#[derive(Clone, Debug)]
pub struct Source {
    /// Pictures to features.
    pub tower: ImageTower,
    /// Side of the tower's input.
    pub image_size: usize,
    /// In front of it.
    pub normalisation: PixelNormalisation,
    /// Behind it.
    pub output: Output,
}

/// From features to logits.
#[derive(Clone, Debug)]
pub enum Output {
    /// Scaled cosines with the features of words.
    Words {
        /// `[K, D]`: words do not change, so they are encoded once.
        words: Tensor<2>,
        /// Logarithm of the factor on the cosine, `[1]`.
        logit_scale: Tensor<1>,
    },
    /// The linear layer of the pretraining.
    Labels {
        /// `[S, D]`
        weight: Tensor<2>,
        /// `[S]`
        bias: Tensor<1>,
    },
}

impl Source {
    /// `model` with what `target` needs behind its image tower; `words` are the features of the words, if they are known.
    ///
    /// # Errors
    /// A model that has no words, or no labels.
    pub fn of_model(
        model: &Model,
        class_names: &[String],
        target: &Target,
        words: Option<Tensor<2>>,
    ) -> Result<Self, MethodError> {
        let output = match target {
            Target::Words { templates } => Output::Words {
                words: known_or_written(words, model, class_names, templates)?,
                logit_scale: model.logit_scale()?,
            },
            Target::Labels { .. } => {
                let (weight, bias) = model.pretrained_head()?;
                Output::Labels { weight, bias }
            }
        };
        Ok(Self {
            tower: model.image_tower()?,
            image_size: model.config().image.image_size(),
            normalisation: model.normalisation(),
            output,
        })
    }

    /// Checks that `parameters` hold a label of its own for each class, if this model has labels.
    ///
    /// # Errors
    /// A label map that is none.
    pub fn check(&self, parameters: &Parameters, classes: usize) -> Result<(), MethodError> {
        let Output::Labels { bias, .. } = &self.output else {
            return Ok(());
        };
        let given = parameters.data(LABEL_MAP)?;
        // What is no whole number from 0 on is no label either, and stays one that does not exist.
        let given = given
            .iter()
            .map(|&label| match label.fract() == 0.0 && label >= 0.0 {
                true => label as usize,
                false => usize::MAX,
            });
        LabelMapping::Given(given.collect()).labels(classes, bias.dims()[0], 0)?;
        Ok(())
    }

    fn device(&self) -> Device {
        match &self.output {
            Output::Words { words, .. } => words.device(),
            Output::Labels { weight, .. } => weight.device(),
        }
    }

    /// Features of the words, `[K, D]`, which a prompt file keeps.
    pub fn words(&self) -> Option<Tensor<2>> {
        match &self.output {
            Output::Words { words, .. } => Some(words.clone()),
            Output::Labels { .. } => None,
        }
    }

    /// Normalised pixels `[B, 3, size, size]` -> logits of the task's classes, `[B, K]`.
    pub fn classify(
        &self,
        parameters: &Parameters,
        pixels: Tensor<4>,
    ) -> Result<Tensor<2>, PromptError> {
        let logits = self.outputs(pixels);
        match &self.output {
            Output::Words { .. } => Ok(logits),
            Output::Labels { .. } => {
                let labels: Tensor<1, Int> = parameters.get::<1>(LABEL_MAP)?.inner().int();
                Ok(label_map::mapped(logits, labels))
            }
        }
    }

    /// The model's own logits, `[B, K]` of words or `[B, S]` of labels.
    fn outputs(&self, pixels: Tensor<4>) -> Tensor<2> {
        let features = self.tower.forward(pixels); // [B, D]
        match &self.output {
            Output::Words { words, logit_scale } => {
                similarity::logits(features, words.clone(), logit_scale.clone())
            }
            Output::Labels { weight, bias } => {
                linear_head::logits_of(features, weight.clone(), bias.clone())
            }
        }
    }

    /// Adds the label of each class to `parameters`, if `target` has labels; `prompted` are pixels as the tower sees them
    /// before anything is learned.
    ///
    /// # Errors
    /// A label map that is none.
    pub fn begin(
        &self,
        target: &Target,
        lesson: &Lesson<'_, Classify>,
        parameters: &mut Parameters,
        prompted: impl Fn(&Parameters, Tensor<4>) -> Result<Tensor<4>, PromptError>,
    ) -> Result<(), MethodError> {
        let (Target::Labels { mapping }, Output::Labels { bias, .. }) = (target, &self.output)
        else {
            return Ok(());
        };
        let classes = lesson.class_names.len();
        let labels = mapping.labels(classes, bias.dims()[0], lesson.seed)?;
        self.write_labels(parameters, &labels);
        // Iterative ones are found before the first epoch as before every other.
        if *mapping == LabelMapping::Frequent {
            self.find_labels(lesson.train, parameters, prompted)?;
        }
        Ok(())
    }

    /// The same before every epoch, where `target` asks for it.
    ///
    /// # Errors
    /// A picture that cannot be read any more.
    pub fn begin_epoch(
        &self,
        target: &Target,
        examples: &Examples<usize>,
        parameters: &mut Parameters,
        prompted: impl Fn(&Parameters, Tensor<4>) -> Result<Tensor<4>, PromptError>,
    ) -> Result<(), PromptError> {
        match target {
            Target::Labels {
                mapping: LabelMapping::Iterative,
            } => self.find_labels(examples, parameters, prompted),
            _ => Ok(()),
        }
    }

    /// Gives each class the label that the model gives most often to its pictures, as `prompted` makes them.
    ///
    /// # Errors
    /// A picture that cannot be read any more.
    pub fn find_labels(
        &self,
        examples: &Examples<usize>,
        parameters: &mut Parameters,
        prompted: impl Fn(&Parameters, Tensor<4>) -> Result<Tensor<4>, PromptError>,
    ) -> Result<(), PromptError> {
        let Output::Labels { bias, .. } = &self.output else {
            return Ok(());
        };
        let labels = bias.dims()[0];
        let classes = parameters.get::<1>(LABEL_MAP)?.dims()[0];
        let device = bias.device();
        let mut seen = Vec::with_capacity(examples.count());
        for part in examples.parts(PICTURES_AT_ONCE, &device) {
            let (of_these, inputs) = part?;
            let pixels = prompted(parameters, inputs.pixels()?)?;
            let logits = elements_of("logits", self.outputs(pixels))?; // [n, S]
            let found = logits.chunks_exact(labels).map(largest);
            seen.extend(of_these.iter().copied().zip(found));
        }
        self.write_labels(parameters, &label_map::most_frequent(seen, classes, labels));
        Ok(())
    }

    fn write_labels(&self, parameters: &mut Parameters, labels: &[usize]) {
        let Output::Labels { bias, .. } = &self.output else {
            return;
        };
        let labels = indices(labels.iter().copied(), &bias.device());
        parameters.insert_constant(LABEL_MAP, labels.float());
    }
}

/// Pixels that are learned: settings that say what of a picture the frozen model sees. That makes them a [`Method`].
pub trait OnPixels:
    Serialize + DeserializeOwned + Clone + PartialEq + Debug + Send + Sync + 'static
{
    /// [`Method::NAME`].
    const NAME: &'static str;

    /// Whether [`InputKind::Pixels`] have a margin.
    const MARGIN: bool;

    /// What the model's outputs mean.
    fn target(&self) -> &Target;

    /// Side of the picture that is given, for a tower whose input has the side `image_size`.
    fn side(&self, image_size: usize) -> usize;

    /// Refuses settings that do not fit such a tower.
    ///
    /// # Errors
    /// The setting and what is wrong with it.
    fn fits(&self, image_size: usize) -> Result<(), SettingError>;

    /// Name, shape and beginning of what is learned.
    fn parameters(&self, image_size: usize) -> Vec<(&'static str, [usize; 4], Initial)>;

    /// What the tower sees of `pixels` `[B, 3, side, side]` in 0..1: `[B, 3, size, size]`, normalised. What is random in it
    /// is drawn from `random`.
    fn prompted(
        &self,
        source: &Source,
        parameters: &Parameters,
        pixels: Tensor<4>,
        random: &mut ChaCha8Rng,
    ) -> Result<Tensor<4>, PromptError>;

    /// Loss and gradients from the logits `[B, K]` of a batch.
    fn step(
        &self,
        leaves: &Parameters,
        batch: &Batch<Classify>,
        logits: Tensor<2>,
    ) -> Result<StepOutcome, PromptError> {
        Ok(batch.outcome(logits, leaves))
    }

    /// [`Method::published`].
    fn published(&self) -> Recipe;

    /// [`Method::fast`].
    fn fast(&self) -> Recipe;
}

impl<P: OnPixels> Method for P {
    const NAME: &'static str = <P as OnPixels>::NAME;

    type Task = Classify;

    fn needs(&self, model: &ModelConfig) -> Needs {
        let side = self.side(model.image.image_size());
        self.target().needs(side, P::MARGIN)
    }

    fn check(&self, model: &ModelConfig) -> Result<(), SettingError> {
        self.fits(model.image.image_size())
    }

    fn tensors(&self, model: &Model, classes: Size) -> Result<Vec<ExpectedTensor>, MethodError> {
        let own = self.parameters(model.config().image.image_size());
        let mut table: Vec<ExpectedTensor> = own
            .into_iter()
            .map(|(name, shape, _)| ExpectedTensor::new(name, &shape))
            .collect();
        if matches!(self.target(), Target::Labels { .. }) {
            table.push(ExpectedTensor::sized(LABEL_MAP, &[classes]));
        }
        Ok(table)
    }

    fn begin(&self, lesson: &Lesson<'_, Classify>) -> Result<Beginning<Classify>, MethodError> {
        let target = self.target();
        let source = Source::of_model(lesson.model, lesson.class_names, target, None)?;
        let prompt = Prompted::new(self, source)?;
        let mut parameters = prompt.initial_parameters(lesson.seed);
        let seen = |parameters: &Parameters, pixels| prompt.seen(parameters, pixels);
        prompt.source.begin(target, lesson, &mut parameters, seen)?;
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
    ) -> Result<Box<dyn Prompt<Classify>>, MethodError> {
        let source = Source::of_model(model, class_names, self.target(), stored)?;
        let prompt = Prompted::new(self, source)?;
        prompt.source.check(parameters, class_names.len())?;
        Ok(Box::new(prompt))
    }

    fn published(&self, _shots: Option<usize>) -> Recipe {
        OnPixels::published(self)
    }

    fn fast(&self, _shots: Option<usize>) -> Recipe {
        OnPixels::fast(self)
    }

    fn takes_other_classes(&self) -> bool {
        matches!(self.target(), Target::Words { .. })
    }
}

/// A frozen model that sees pictures with learned pixels on them.
#[derive(Debug)]
pub struct Prompted<P> {
    pixels: P,
    source: Source,
}

impl<P: OnPixels> Prompted<P> {
    /// Pixels in front of `source`.
    ///
    /// # Errors
    /// Settings that do not fit its input.
    pub fn new(pixels: &P, source: Source) -> Result<Self, MethodError> {
        pixels.fits(source.image_size)?;
        Ok(Self {
            pixels: pixels.clone(),
            source,
        })
    }

    /// Pixels as they begin; no labels.
    pub fn initial_parameters(&self, seed: u64) -> Parameters {
        let device = self.source.device();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut parameters = Parameters::default();
        for (name, shape, initial) in self.pixels.parameters(self.source.image_size) {
            let values = initial.draw(shape.iter().product(), &mut random);
            parameters.insert_data(name, &shape, values, &device);
        }
        parameters
    }

    /// What the tower sees when nothing is learned. What is random then follows from a fixed seed, so that a picture always
    /// has the same logits; the official code draws anew.
    fn seen(&self, parameters: &Parameters, pixels: Tensor<4>) -> Result<Tensor<4>, PromptError> {
        let random = &mut ChaCha8Rng::seed_from_u64(0);
        self.pixels
            .prompted(&self.source, parameters, pixels, random)
    }
}

impl<P: OnPixels> Prompt<Classify> for Prompted<P> {
    fn forward(&self, parameters: &Parameters, inputs: &Inputs) -> Result<Tensor<2>, PromptError> {
        let seen = self.seen(parameters, inputs.pixels()?)?;
        self.source.classify(parameters, seen)
    }

    fn stored_features(&self, _parameters: &Parameters) -> Result<Option<Tensor<2>>, PromptError> {
        Ok(self.source.words())
    }

    fn picture(&self, parameters: &Parameters) -> Result<Option<Tensor<4>>, PromptError> {
        let side = self.pixels.side(self.source.image_size);
        let grey = Tensor::full([1, 3, side, side], 0.5, &self.source.device());
        let seen = self.seen(parameters, grey)?;
        Ok(Some(self.source.normalisation.undo(seen).clamp(0.0, 1.0)))
    }

    fn begin_epoch(
        &self,
        parameters: &mut Parameters,
        examples: &Examples<usize>,
    ) -> Result<(), PromptError> {
        let seen = |parameters: &Parameters, pixels| self.seen(parameters, pixels);
        self.source
            .begin_epoch(self.pixels.target(), examples, parameters, seen)
    }

    fn step(
        &self,
        leaves: &Parameters,
        batch: &Batch<Classify>,
    ) -> Result<StepOutcome, PromptError> {
        let (pixels, random) = (batch.inputs.pixels()?, &mut batch.random());
        let seen = self.pixels.prompted(&self.source, leaves, pixels, random)?;
        let logits = self.source.classify(leaves, seen)?;
        self.pixels.step(leaves, batch, logits)
    }
}

/// `middle` `[B, C, h, w]` with strips around it: above and below as wide as the whole, left and right as high as the middle.
pub(super) fn framed(middle: Tensor<4>, [above, below, left, right]: [Tensor<4>; 4]) -> Tensor<4> {
    let middle = Tensor::cat(vec![left, middle, right], 3);
    Tensor::cat(vec![above, middle, below], 2)
}

/// `middle` `[B, 3, h, h]` on a canvas of zeros `[B, 3, side, side]`, its upper left corner at `[row, column]`.
pub(super) fn on_canvas(middle: Tensor<4>, side: usize, [row, column]: [usize; 2]) -> Tensor<4> {
    let [batch, _, size, _] = middle.dims();
    let device = middle.device();
    let zeros =
        |height: usize, width: usize| Tensor::<4>::zeros([batch, 3, height, width], &device);
    let strips = [
        zeros(row, side),
        zeros(side - size - row, side),
        zeros(size, column),
        zeros(size, side - size - column),
    ];
    framed(middle, strips)
}
