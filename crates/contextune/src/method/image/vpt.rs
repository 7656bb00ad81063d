//! Visual prompt tuning: tokens learned inside a frozen vision transformer, and a linear classifier behind it (Jia et al.
//! 2022, "Visual Prompt Tuning", §3; KMnP/vpt 4410440, `vit_prompt`).

use std::fmt;
use std::str::FromStr;

use burn::tensor::Tensor;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::source::framed;
use crate::architecture::{ImageTowerConfig, ModelConfig, VitConfig};
use crate::backbone::plain::{Insert, Inserts};
use crate::backbone::{ImageTower, PixelNormalisation, VisionTransformer};
use crate::input::{Examples, Inputs, PICTURES_AT_ONCE};
use crate::method::{Beginning, Grid, Lesson, Method, MethodError, Needs, Recipe, SettingError};
use crate::model::Model;
use crate::objective::linear_head;
use crate::parameters::{ExpectedTensor, Initial, Parameters, Size, dropout};
use crate::task::{Batch, Classify, Prompt, PromptError, TrainingViews};
use crate::train::{FitSettings, Optimizer, Schedule, StepOutcome};

/// Official names of the parameters.
const PROMPTS: &str = "prompt_embeddings";
const DEEP_PROMPTS: &str = "deep_prompt_embeddings";
const PROJECTION_WEIGHT: &str = "prompt_proj.weight";
const PROJECTION_BIAS: &str = "prompt_proj.bias";
const TOP_AND_BOTTOM: &str = "prompt_embeddings_tb";
const LEFT_AND_RIGHT: &str = "prompt_embeddings_lr";
const PATCH_WEIGHT: &str = "patch_embeddings.weight";
const PATCH_BIAS: &str = "patch_embeddings.bias";

/// Where prompts enter and how they are read out (Jia et al. 2022, §4.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VptSettings {
    /// Prompt tokens, p; pixels of the border where the location is `pad`, channels where it is `below`.
    pub tokens: usize,
    /// In front of which layers prompts enter.
    pub depth: Depth,
    /// What a prompt is.
    pub location: Location,
    /// What of the last layer's output is classified.
    pub pooling: Pooling,
    /// Width of the prompts before a learned linear layer brings them to the tower's; absent: no such layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<usize>,
    /// Share of the prompts' elements that a training step leaves out.
    pub dropout: f32,
    /// Where prompts begin.
    #[serde(default)]
    pub initial: InitialPrompts,
}

/// Where prompts begin (Jia et al. 2022, appendix; `INITIATION` in KMnP/vpt). Unless at random, there is one prompt for each
/// class, from the class tokens of its training pictures, averaged. The official code reads these from files that were not
/// published; that they are means over the training pictures, without the norm behind the last layer, is our reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitialPrompts {
    /// U(−v, v), v being Xavier's bound of a patch's pixels and a token.
    #[default]
    Random,
    /// In every layer the class token behind the last one (`final-cls`).
    FinalClassToken,
    /// In each layer the class token that enters it (`cls-nolastl`).
    ClassTokensWithoutLast,
    /// In each layer the class token that leaves it (`cls-nofirstl`).
    ClassTokensWithoutFirst,
}

/// In front of which layers prompts enter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "layers")]
pub enum Depth {
    /// The first; they go through all others.
    Shallow,
    /// Each, with prompts of its own.
    #[default]
    Deep,
    /// Each, with the same prompts.
    Shared,
    /// Each of the first n; the last of them go through all others.
    First(usize),
    /// Each of the first n; behind these there are none.
    FirstOnly(usize),
    /// Each of the last n.
    Last(usize),
    /// The same as the official code does it: where prompts first enter, they take the place of the first patches.
    LastAsPublished(usize),
}

/// What a prompt is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Location {
    /// Tokens behind the class token, without a position.
    #[default]
    Prepend,
    /// A summand for each token.
    Add,
    /// One summand for all tokens.
    #[serde(rename = "add-1")]
    Add1,
    /// Patches of pixels that go through the patch embedding, from U(−v, v).
    PrependPixel,
    /// The same, from N(0, 1).
    PrependPixelGaussian,
    /// The same, from U(0, 1) and normalised as pictures are.
    PrependPixelNormalised,
    /// A border of pixels around the picture, which grows.
    Pad,
    /// Channels below the picture's, with a patch embedding for all channels that learns.
    Below,
}

/// What of the last layer's output is classified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The class token.
    #[default]
    ClassToken,
    /// The mean of the patches.
    Image,
    /// The mean of the prompts.
    Prompt,
    /// The mean of both.
    ImageAndPrompt,
}

impl Default for VptSettings {
    fn default() -> Self {
        Self {
            tokens: 10,
            depth: Depth::Deep,
            location: Location::Prepend,
            pooling: Pooling::ClassToken,
            project: None,
            dropout: 0.0,
            initial: InitialPrompts::Random,
        }
    }
}

impl Depth {
    /// Layers of a tower of `layers` in front of which prompts of their own enter.
    fn layers(self, layers: usize) -> std::ops::Range<usize> {
        match self {
            Self::Shallow => 0..1,
            Self::Deep | Self::Shared => 0..layers,
            Self::First(n) | Self::FirstOnly(n) => 0..n,
            Self::Last(n) | Self::LastAsPublished(n) => layers - n..layers,
        }
    }

    fn starts_late(self) -> bool {
        matches!(self, Self::Last(_) | Self::LastAsPublished(_))
    }
}

impl fmt::Display for Depth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shallow => formatter.write_str("shallow"),
            Self::Deep => formatter.write_str("deep"),
            Self::Shared => formatter.write_str("shared"),
            Self::First(n) => write!(formatter, "first-{n}"),
            Self::FirstOnly(n) => write!(formatter, "first-{n}-only"),
            Self::Last(n) => write!(formatter, "last-{n}"),
            Self::LastAsPublished(n) => write!(formatter, "last-{n}-as-published"),
        }
    }
}

impl FromStr for Depth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<usize>().ok().filter(|&n| n > 0);
        let first = text.strip_prefix("first-");
        let last = text.strip_prefix("last-");
        let parsed = match text {
            "shallow" => Some(Self::Shallow),
            "deep" => Some(Self::Deep),
            "shared" => Some(Self::Shared),
            _ => first
                .and_then(|rest| match rest.strip_suffix("-only") {
                    Some(rest) => number(rest).map(Self::FirstOnly),
                    None => number(rest).map(Self::First),
                })
                .or_else(|| {
                    last.and_then(|rest| match rest.strip_suffix("-as-published") {
                        Some(rest) => number(rest).map(Self::LastAsPublished),
                        None => number(rest).map(Self::Last),
                    })
                }),
        };
        parsed.ok_or_else(|| {
            "a depth is shallow, deep, shared, first-N, first-N-only, last-N or last-N-as-published"
                .into()
        })
    }
}

impl VptSettings {
    /// Refuses what cannot be combined in a tower of this architecture.
    fn fits(&self, config: &VitConfig) -> Result<(), SettingError> {
        /// More tokens than any published model has patches.
        const MOST_TOKENS: usize = 4096;
        let refuse = |setting, problem: String| Err(SettingError::new(setting, problem));
        let layers = config.layers;
        let is = |location| self.location == location;
        let of_tokens = is(Location::Prepend) || is(Location::Add) || is(Location::Add1);
        let depth = self.depth;
        if !(1..=MOST_TOKENS).contains(&self.tokens) {
            let tokens = self.tokens;
            return refuse(
                "tokens",
                format!("is {tokens}; 1 to {MOST_TOKENS} is expected"),
            );
        }
        if !of_tokens && depth != Depth::Shallow {
            return refuse(
                "depth",
                format!(
                    "is {depth}, but prompts made of pixels enter in front of the first layer: shallow is expected"
                ),
            );
        }
        for (setting, is_given) in [
            ("dropout", self.dropout > 0.0),
            ("project", self.project.is_some()),
        ] {
            if !of_tokens && is_given {
                let problem = "is for prompts that are tokens: prepend, add and add-1";
                return refuse(setting, problem.to_owned());
            }
        }
        if let Depth::First(n) | Depth::FirstOnly(n) | Depth::Last(n) | Depth::LastAsPublished(n) =
            depth
            && !(1..=layers).contains(&n)
        {
            return refuse(
                "depth",
                format!("{depth} asks for {n} layers; the tower has {layers}"),
            );
        }
        let leave_again = matches!(depth, Depth::FirstOnly(_));
        if !is(Location::Prepend) && leave_again {
            return refuse(
                "depth",
                format!(
                    "is {depth}, but only tokens in front of the patches (prepend) can leave again: use first-N"
                ),
            );
        }
        if !is(Location::Prepend) && self.pooling != Pooling::ClassToken {
            let problem = "is for tokens in front of the patches (prepend)";
            return refuse("pooling", problem.to_owned());
        }
        let reads_prompts = matches!(self.pooling, Pooling::Prompt | Pooling::ImageAndPrompt);
        if leave_again && reads_prompts {
            let problem =
                "reads prompts, and those of first-N-only have left: use class-token or image";
            return refuse("pooling", problem.to_owned());
        }
        let patches = (config.image_size / config.patch_size).pow(2);
        if matches!(depth, Depth::LastAsPublished(_)) && self.tokens >= patches {
            let tokens = self.tokens;
            return refuse(
                "tokens",
                format!(
                    "is {tokens}, and depth {depth} puts them in the place of {patches} patches: use fewer"
                ),
            );
        }
        if self
            .project
            .is_some_and(|width| !(1..=MOST_TOKENS).contains(&width))
        {
            return refuse("project", format!("is a width from 1 to {MOST_TOKENS}"));
        }
        let plain = is(Location::Prepend) && self.project.is_none();
        let whole = matches!(depth, Depth::Shallow | Depth::Deep);
        if self.initial != InitialPrompts::Random && !(plain && whole) {
            let problem = "from class tokens is for tokens in front of the patches (prepend), shallow or deep, without project";
            return refuse("initial", problem.to_owned());
        }
        match (0.0..1.0).contains(&self.dropout) {
            true => Ok(()),
            false => refuse("dropout", "is a share from 0 to below 1".to_owned()),
        }
    }

    /// What is learned in the tower: name, shape, beginning.
    fn parameters(&self, config: &VitConfig) -> Vec<(&'static str, Vec<usize>, Initial)> {
        let (patch, size, p) = (config.patch_size, config.image_size, self.tokens);
        let width = self.project.unwrap_or(config.width);
        // Xavier's bound, of a patch's pixels and a token.
        let bound = (6.0 / (3 * patch * patch + width) as f32).sqrt();
        let uniform = Initial::Uniform(bound);
        let pixels = vec![1, 3, patch, patch * p];
        let mut list = match self.location {
            Location::Prepend | Location::Add | Location::Add1 => {
                let rows = match self.location {
                    Location::Prepend => p,
                    Location::Add => {
                        config.leading_tokens() + (config.image_size / config.patch_size).pow(2)
                    }
                    _ => 1,
                };
                let layers = self.depth.layers(config.layers).len();
                let mut list = Vec::new();
                let mut deep = layers;
                if !self.depth.starts_late() {
                    list.push((PROMPTS, vec![1, rows, width], uniform));
                    deep -= 1;
                }
                if deep > 0 && self.depth != Depth::Shared {
                    list.push((DEEP_PROMPTS, vec![deep, rows, width], uniform));
                }
                list
            }
            Location::PrependPixel => vec![(PROMPTS, pixels, uniform)],
            Location::PrependPixelGaussian => vec![(PROMPTS, pixels, Initial::Normal(1.0))],
            Location::PrependPixelNormalised => vec![(PROMPTS, pixels, Initial::Unit)],
            Location::Pad => vec![
                (
                    TOP_AND_BOTTOM,
                    vec![1, 3, 2 * p, size + 2 * p],
                    Initial::Unit,
                ),
                (LEFT_AND_RIGHT, vec![1, 3, size, 2 * p], Initial::Unit),
            ],
            Location::Below => vec![
                (PROMPTS, vec![1, p, size, size], uniform),
                (
                    PATCH_WEIGHT,
                    vec![config.width, 3 + p, patch, patch],
                    uniform,
                ),
                (PATCH_BIAS, vec![config.width], Initial::Constant(0.0)),
            ],
        };
        if let Some(narrow) = self.project {
            // Kaiming's normal distribution by the outputs.
            let deviation = (2.0 / config.width as f32).sqrt();
            list.extend([
                (
                    PROJECTION_WEIGHT,
                    vec![config.width, narrow],
                    Initial::Normal(deviation),
                ),
                (PROJECTION_BIAS, vec![config.width], Initial::linear(narrow)),
            ]);
        }
        list
    }
}

impl Method for VptSettings {
    const NAME: &'static str = "vpt";

    type Task = Classify;

    fn needs(&self, model: &ModelConfig) -> Needs {
        Needs {
            vision_transformer: true,
            ..Needs::pixels(model.image.image_size())
        }
    }

    fn check(&self, model: &ModelConfig) -> Result<(), SettingError> {
        match &model.image {
            ImageTowerConfig::Vit(config) => self.fits(config),
            _ => Ok(()), // what the method needs says so
        }
    }

    fn tensors(&self, model: &Model, classes: Size) -> Result<Vec<ExpectedTensor>, MethodError> {
        let ImageTowerConfig::Vit(config) = &model.config().image else {
            return Err(MethodError::NeedsVisionTransformer);
        };
        let mut table = linear_head::tensors(classes, model.config().embedding_width);
        let own = self.parameters(config).into_iter();
        table.extend(own.map(|(name, shape, _)| ExpectedTensor::new(name, &shape)));
        Ok(table)
    }

    fn begin(&self, lesson: &Lesson<'_, Classify>) -> Result<Beginning<Classify>, MethodError> {
        let prompt = Vpt::of_model(lesson.model, self)?;
        let classes = lesson.class_names.len();
        let mut parameters = prompt.initial_parameters(classes, lesson.seed)?;
        if self.initial != InitialPrompts::Random {
            if self.tokens != classes {
                let problem = format!(
                    "is {}, but prompts that begin from class tokens are one for each of the {classes} classes: leave it out",
                    self.tokens
                );
                return Err(SettingError::new("tokens", problem).into());
            }
            let has_pictures = |class: &usize| lesson.train.targets.contains(class);
            if let Some(class) = (0..classes).find(|class| !has_pictures(class)) {
                let problem = format!(
                    "from class tokens needs pictures of every class, and there are none to learn {:?} from",
                    lesson.class_names[class]
                );
                return Err(SettingError::new("initial", problem).into());
            }
            prompt.begin_from_classes(lesson.train, &mut parameters)?;
        }
        Ok(Beginning {
            prompt: Box::new(prompt),
            parameters,
        })
    }

    fn open(
        &self,
        model: &Model,
        _class_names: &[String],
        _parameters: &Parameters,
        _stored: Option<Tensor<2>>,
    ) -> Result<Box<dyn Prompt<Classify>>, MethodError> {
        Ok(Box::new(Vpt::of_model(model, self)?))
    }

    /// Jia et al. 2022, §4.1 and appendix A; rate and decay from the middle of their grid.
    fn published(&self, _shots: Option<usize>) -> Recipe {
        Recipe {
            batch_size: Some(64),
            least_area: 8,
            views: TrainingViews::Whole,
            fit: FitSettings {
                epochs: 100,
                learning_rate: 1.25,
                optimizer: Optimizer::Sgd {
                    momentum: 0.9,
                    weight_decay: 1e-3,
                },
                schedule: Schedule::EpochWarmupCosine { warmup_epochs: 10 },
            },
        }
    }

    /// The rates of `tune_vtab.py --train-type prompt` (KMnP/vpt).
    fn published_grid(&self) -> Option<Grid> {
        let rates = [50.0, 25.0, 10.0, 5.0, 2.5, 1.0, 0.5, 0.25, 0.1, 0.05];
        Some(Grid::visual(&rates, &self.published(None)))
    }

    /// AdamW, whose rate needs no grid; chosen on one seed of two tasks of the icon benchmark.
    fn fast(&self, _shots: Option<usize>) -> Recipe {
        Recipe {
            batch_size: Some(32),
            fit: FitSettings {
                epochs: 30,
                learning_rate: 1e-2,
                optimizer: Optimizer::adam_w(1e-2),
                schedule: Schedule::Cosine,
            },
            ..self.published(None)
        }
    }

    fn remark(&self, model: &ModelConfig) -> Option<String> {
        let ImageTowerConfig::Vit(config) = &model.image else {
            return None;
        };
        let side = config.image_size + 2 * self.tokens;
        let lost = side % config.patch_size;
        (self.location == Location::Pad && lost > 0).then(|| {
            format!(
                "with its border the picture is {side} pixels wide, no multiple of the patches' {}: its last {lost} rows and columns are left out, as published",
                config.patch_size
            )
        })
    }

    /// What the backward pass of each block needs: the inputs of both norms, queries, keys, values, and the MLP's hidden layer.
    fn step_bytes(&self, model: &ModelConfig, pictures: usize) -> Option<u64> {
        let ImageTowerConfig::Vit(config) = &model.image else {
            return None;
        };
        let (image_size, p) = (config.image_size, self.tokens);
        let side = match self.location {
            Location::Pad => image_size + 2 * p,
            _ => image_size,
        };
        let own = config.leading_tokens() + (side / config.patch_size).pow(2);
        let (prepended, channels) = match self.location {
            Location::Add | Location::Add1 | Location::Pad => (0, 3),
            Location::Below => (0, 3 + p),
            _ => (p, 3),
        };
        // Prompts that the next layer overwrites are keys and values alone.
        let (rows, keys) = match self.depth {
            Depth::Deep | Depth::Shared => (own, prepended),
            _ => (own + prepended, 0),
        };
        let numbers = rows * (5 * config.width + config.mlp_width()) + keys * 2 * config.width;
        Some(4 * (pictures * (config.layers * numbers + channels * side * side)) as u64)
    }

    fn takes_other_classes(&self) -> bool {
        false
    }
}

/// A frozen vision transformer with prompts inside.
#[derive(Debug)]
pub struct Vpt {
    settings: VptSettings,
    tower: Box<VisionTransformer>,
    normalisation: PixelNormalisation,
}

impl Vpt {
    /// Prompts in this tower, whose pixels are normalised so.
    ///
    /// # Errors
    /// Settings that exclude each other; another tower than a vision transformer.
    pub fn new(
        settings: &VptSettings,
        tower: ImageTower,
        normalisation: PixelNormalisation,
    ) -> Result<Self, MethodError> {
        let ImageTower::Vit(tower) = tower else {
            return Err(MethodError::NeedsVisionTransformer);
        };
        settings.fits(tower.config())?;
        Ok(Self {
            settings: settings.clone(),
            tower,
            normalisation,
        })
    }

    fn of_model(model: &Model, settings: &VptSettings) -> Result<Self, MethodError> {
        Self::new(settings, model.image_tower()?, model.normalisation())
    }

    /// Prompts and head where learning begins.
    ///
    /// # Errors
    /// The patch embedding cannot be extended.
    pub fn initial_parameters(&self, classes: usize, seed: u64) -> Result<Parameters, PromptError> {
        let device = self.tower.patch_weight().device();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut parameters = Parameters::default();
        for (name, shape, initial) in self.settings.parameters(self.tower.config()) {
            let values = initial.draw(shape.iter().product(), &mut random);
            parameters.insert_data(name, &shape, values, &device);
        }
        if self.settings.location == Location::Below {
            // Only the new channels begin anew.
            let weight = parameters.get::<4>(PATCH_WEIGHT)?;
            let known = self.tower.patch_weight(); // [d, 3, P, P]
            let [_, channels, ..] = weight.dims();
            let others = weight.narrow(1, 3, channels - 3);
            parameters.insert(PATCH_WEIGHT, Tensor::cat(vec![known, others], 1));
            parameters.insert(PATCH_BIAS, self.tower.patch_bias());
        }
        let shape = [classes, self.tower.feature_width()];
        linear_head::initialise(&mut parameters, shape, &mut random, &device);
        Ok(parameters)
    }

    /// Puts the class tokens of `examples`, averaged over each class, in the place of the prompts.
    fn begin_from_classes(
        &self,
        examples: &Examples<usize>,
        parameters: &mut Parameters,
    ) -> Result<(), PromptError> {
        let (device, classes) = (self.tower.patch_weight().device(), self.settings.tokens);
        let mut pictures = vec![0_usize; classes];
        for &label in &examples.targets {
            pictures[label] += 1;
        }
        let mut means: Vec<Tensor<2>> = Vec::new(); // of each layer, [K, d]
        for part in examples.parts(PICTURES_AT_ONCE, &device) {
            let (labels, inputs) = part?;
            let mut shares = vec![0.0_f32; classes * labels.len()];
            for (place, &label) in labels.iter().enumerate() {
                shares[label * labels.len() + place] = 1.0 / pictures[label] as f32;
            }
            let shares = Tensor::<1>::from_floats(&shares[..], &device);
            let shares = shares.reshape([classes, labels.len()]); // [K, B]
            let tokens = self
                .tower
                .tokens(self.normalisation.forward(inputs.pixels()?));
            let summands = self.tower.class_tokens(tokens).into_iter();
            let summands = summands.map(|rows| shares.clone().matmul(rows));
            means = match means.is_empty() {
                true => summands.collect(),
                false => means
                    .into_iter()
                    .zip(summands)
                    .map(|(a, b)| a + b)
                    .collect(),
            };
        }
        let layers = self.tower.config().layers;
        let layer = |layer: usize| {
            let number = match self.settings.initial {
                InitialPrompts::Random | InitialPrompts::ClassTokensWithoutLast => layer,
                InitialPrompts::FinalClassToken => layers,
                InitialPrompts::ClassTokensWithoutFirst => layer + 1,
            };
            means[number].clone().unsqueeze::<3>() // [1, K, d]
        };
        parameters.insert(PROMPTS, layer(0));
        if self.settings.depth == Depth::Deep && layers > 1 {
            let deep = (1..layers).map(layer).collect();
            parameters.insert(DEEP_PROMPTS, Tensor::cat(deep, 0));
        }
        Ok(())
    }

    /// `pixels` `[B, 3, size, size]` in 0..1 -> `[B, K]`; with `random` some elements of the prompts are left out.
    fn logits(
        &self,
        parameters: &Parameters,
        pixels: Tensor<4>,
        mut random: Option<&mut ChaCha8Rng>,
    ) -> Result<Tensor<2>, PromptError> {
        let batch = pixels.dims()[0];
        let tokens = self.tokens(parameters, self.normalisation.forward(pixels))?;
        let mut inserts = self.inserts(parameters, batch, &mut random)?;
        // What is added to the tokens is added before any norm.
        let tokens = match inserts.remove(&0) {
            Some(Insert::Summands(summands)) => tokens + summands,
            Some(rows) => {
                inserts.insert(0, rows);
                tokens
            }
            None => tokens,
        };
        Ok(linear_head::logits(
            parameters,
            self.feature(tokens, &inserts),
        )?)
    }

    /// Tokens of normalised pixels `[B, 3, size, size]`, `[B, T, d]`.
    fn tokens(&self, parameters: &Parameters, pixels: Tensor<4>) -> Result<Tensor<3>, PromptError> {
        let [batch, _, size, _] = pixels.dims();
        let p = self.settings.tokens;
        match self.settings.location {
            Location::Pad => {
                let normed = |name: &str| {
                    let [_, _, height, width] = parameters.get::<4>(name)?.dims();
                    let border = self.normalisation.forward(parameters.get(name)?);
                    Ok::<_, PromptError>(border.expand([batch, 3, height, width]))
                };
                let sides = normed(LEFT_AND_RIGHT)?; // [B, 3, size, 2p]
                let (left, right) = (sides.clone().narrow(3, 0, p), sides.narrow(3, p, p));
                let ends = normed(TOP_AND_BOTTOM)?; // [B, 3, 2p, size + 2p]
                let (top, bottom) = (ends.clone().narrow(2, 0, p), ends.narrow(2, p, p));
                let whole = framed(pixels, [top, bottom, left, right]);
                Ok(self.tower.tokens(whole))
            }
            Location::Below => {
                let below = parameters.get::<4>(PROMPTS)?.expand([batch, p, size, size]);
                let pixels = Tensor::cat(vec![pixels, below], 1); // [B, 3 + p, size, size]
                let (weight, bias) = (parameters.get(PATCH_WEIGHT)?, parameters.get(PATCH_BIAS)?);
                let patches = self.tower.embed_patches_by(weight, bias, pixels);
                Ok(self.tower.with_positions(patches))
            }
            _ => Ok(self.tower.tokens(pixels)),
        }
    }

    /// What enters before each layer.
    fn inserts(
        &self,
        parameters: &Parameters,
        batch: usize,
        random: &mut Option<&mut ChaCha8Rng>,
    ) -> Result<Inserts, PromptError> {
        let VptSettings {
            depth, location, ..
        } = self.settings;
        let mut inserts = Inserts::new();
        match location {
            Location::Pad | Location::Below => return Ok(inserts),
            Location::PrependPixel
            | Location::PrependPixelGaussian
            | Location::PrependPixelNormalised => {
                let pixels = parameters.get::<4>(PROMPTS)?; // [1, 3, P, P · p]
                let pixels = match location {
                    Location::PrependPixelNormalised => self.normalisation.forward(pixels),
                    _ => pixels,
                };
                let patch = self.tower.config().patch_size;
                let patches = pixels
                    .reshape([3, patch, self.settings.tokens, patch])
                    .permute([2, 0, 1, 3]); // [p, 3, P, P]
                let rows = self.tower.embed_patches(patches); // [p, 1, d]
                inserts.insert(0, Insert::Rows(rows.swap_dims(0, 1)));
                return Ok(inserts);
            }
            Location::Prepend | Location::Add | Location::Add1 => {}
        }
        let layers = self.tower.config().layers;
        let entered = depth.layers(layers);
        let first_deep = if depth.starts_late() {
            entered.start
        } else {
            1
        };
        for layer in entered.clone() {
            let rows = match layer < first_deep || depth == Depth::Shared {
                true => parameters.get::<3>(PROMPTS)?,
                false => parameters
                    .get::<3>(DEEP_PROMPTS)?
                    .narrow(0, layer - first_deep, 1),
            }; // [1, p, d']
            let rows = self.left_out(self.projected(parameters, rows)?, batch, random);
            let replaces = matches!(depth, Depth::LastAsPublished(_)) && layer == entered.start;
            let insert = match location {
                Location::Prepend if replaces => Insert::RowsInsteadOfPatches(rows),
                Location::Prepend => Insert::Rows(rows),
                _ => Insert::Summands(rows),
            };
            inserts.insert(layer, insert);
        }
        if let Depth::FirstOnly(n) = depth {
            inserts.insert(n, Insert::Nothing);
        }
        Ok(inserts)
    }

    /// `[1, p, d']` -> `[1, p, d]`.
    fn projected(
        &self,
        parameters: &Parameters,
        rows: Tensor<3>,
    ) -> Result<Tensor<3>, PromptError> {
        if self.settings.project.is_none() {
            return Ok(rows);
        }
        let weight = parameters.get::<2>(PROJECTION_WEIGHT)?; // [d, d']
        let bias = parameters.get::<1>(PROJECTION_BIAS)?;
        Ok(rows.matmul(weight.transpose().unsqueeze()) + bias.unsqueeze())
    }

    /// Dropout, of other elements in every picture: `[1, p, d]` -> `[B, p, d]`.
    fn left_out(
        &self,
        rows: Tensor<3>,
        batch: usize,
        random: &mut Option<&mut ChaCha8Rng>,
    ) -> Tensor<3> {
        let share = self.settings.dropout;
        let Some(random) = random.as_mut().filter(|_| share > 0.0) else {
            return rows;
        };
        let [_, count, width] = rows.dims();
        dropout(rows.expand([batch, count, width]), share, random)
    }

    /// What is classified, `[B, D]`.
    fn feature(&self, tokens: Tensor<3>, inserts: &Inserts) -> Tensor<2> {
        if self.settings.pooling == Pooling::ClassToken {
            return self.tower.class_feature(tokens, inserts);
        }
        let leading = self.tower.config().leading_tokens();
        let p = self.settings.tokens;
        let rows = self.tower.all_rows(tokens, inserts); // leading tokens, patches, prompts
        let [batch, count, width] = rows.dims();
        let has_prompts = !matches!(self.settings.depth, Depth::FirstOnly(_));
        let patches = count - leading - if has_prompts { p } else { 0 };
        let (first, length) = match self.settings.pooling {
            Pooling::ClassToken => (0, 1),
            Pooling::Image => (leading, patches),
            Pooling::Prompt => (leading + patches, p),
            Pooling::ImageAndPrompt => (leading, patches + p),
        };
        let mean = rows.narrow(1, first, length).mean_dim(1);
        self.tower.project(mean.reshape([batch, width]))
    }
}

impl Prompt<Classify> for Vpt {
    fn forward(&self, parameters: &Parameters, inputs: &Inputs) -> Result<Tensor<2>, PromptError> {
        self.logits(parameters, inputs.pixels()?, None)
    }

    fn step(
        &self,
        leaves: &Parameters,
        batch: &Batch<Classify>,
    ) -> Result<StepOutcome, PromptError> {
        let pixels = batch.inputs.pixels()?;
        let logits = self.logits(leaves, pixels, Some(&mut batch.random()))?;
        Ok(batch.outcome(logits, leaves))
    }
}
