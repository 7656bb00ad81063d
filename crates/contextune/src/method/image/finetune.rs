//! What prompts inside a tower are compared with: a linear classifier behind the frozen tower, and parts of the tower trained
//! with it (Jia et al. 2022, §4.1; KMnP/vpt 4410440, `vit_models.py`, `mlp.py`, `adapter_block.py`).

use std::fmt;
use std::str::FromStr;

use burn::tensor::{Device, Tensor, activation};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::side;
use crate::architecture::{ImageTowerConfig, ModelConfig};
use crate::backbone::alexnet;
use crate::backbone::transformer::adapter_width;
use crate::backbone::{ImageTower, PixelNormalisation, VisionTransformer};
use crate::input::Inputs;
use crate::method::{Beginning, Grid, Lesson, Method, MethodError, Needs, Recipe, SettingError};
use crate::model::Model;
use crate::objective::linear_head;
use crate::parameters::{ExpectedTensor, Initial, Parameters, Size, dropout};
use crate::task::{Batch, Classify, Prompt, PromptError, TrainingViews};
use crate::train::{FitSettings, Optimizer, Schedule, StepOutcome};

/// Share of a hidden layer's elements that a step leaves out.
const DROPOUT: f32 = 0.1;
/// Layers of a classifier, at most.
const MOST_LAYERS: usize = 64;
/// Added to the variance in a batch norm.
const BATCH_NORM_EPSILON: f32 = 1e-5;

/// A classifier, and what is trained with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinetuneSettings {
    /// What learns.
    pub tuned: Tuned,
}

/// What learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "layers")]
pub enum Tuned {
    /// A linear layer on the frozen features.
    #[default]
    Linear,
    /// So many layers on the frozen features, the last of them linear: [linear, ReLU, batch norm, dropout] before it.
    Mlp(usize),
    /// The last n blocks, the norm behind them, and a linear layer.
    Partial(usize),
    /// All biases of the tower, and a linear layer (Zaken et al. 2022, "BitFit").
    Bias,
    /// A narrow two-layer network behind each block's MLP, and a linear layer (Pfeiffer et al. 2021).
    Adapter,
    /// The same as the official code initialises it: all its parameters are zero, so its weights never get a gradient and what
    /// learns is one bias for each block.
    AdapterAsPublished,
    /// A small network beside the frozen tower, and a linear layer on the mixture of both ([`side`]).
    Side,
    /// The whole tower, and a linear layer.
    Full,
}

impl fmt::Display for Tuned {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linear => formatter.write_str("linear"),
            Self::Mlp(layers) => write!(formatter, "mlp-{layers}"),
            Self::Partial(blocks) => write!(formatter, "partial-{blocks}"),
            Self::Bias => formatter.write_str("bias"),
            Self::Adapter => formatter.write_str("adapter"),
            Self::AdapterAsPublished => formatter.write_str("adapter-as-published"),
            Self::Side => formatter.write_str("side"),
            Self::Full => formatter.write_str("full"),
        }
    }
}

impl FromStr for Tuned {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |prefix: &str, least: usize| {
            let number = text.strip_prefix(prefix)?.parse::<usize>().ok()?;
            (number >= least).then_some(number)
        };
        match text {
            "linear" => Some(Self::Linear),
            "bias" => Some(Self::Bias),
            "adapter" => Some(Self::Adapter),
            "adapter-as-published" => Some(Self::AdapterAsPublished),
            "side" => Some(Self::Side),
            "full" => Some(Self::Full),
            _ => number("mlp-", 2)
                .map(Self::Mlp)
                .or_else(|| number("partial-", 1).map(Self::Partial)),
        }
        .ok_or_else(|| {
            "what learns is linear, mlp-N (N from 2), partial-N, bias, adapter, adapter-as-published, side or full"
                .into()
        })
    }
}

impl Tuned {
    /// Whether the tower stays as it is: its features are computed once.
    fn leaves_the_tower(self) -> bool {
        matches!(self, Self::Linear | Self::Mlp(_))
    }

    /// Hidden layers between feature and classifier.
    fn hidden_layers(self) -> usize {
        match self {
            Self::Mlp(layers) => layers - 1,
            _ => 0,
        }
    }

    /// Whether the tower's own parameter `name` learns, in a tower of `layers`.
    fn trains(self, name: &str, layers: usize) -> bool {
        match self {
            Self::Full => true,
            Self::Bias => name.ends_with("bias"),
            Self::Partial(last) => {
                let block = name
                    .strip_prefix("visual.transformer.resblocks.")
                    .and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
                name.starts_with("visual.ln_post")
                    || block.is_some_and(|block| block + last >= layers)
            }
            Self::Linear | Self::Mlp(_) | Self::Adapter | Self::AdapterAsPublished | Self::Side => {
                false
            }
        }
    }
}

impl Method for FinetuneSettings {
    const NAME: &'static str = "finetune";

    type Task = Classify;

    fn needs(&self, model: &ModelConfig) -> Needs {
        match self.tuned.leaves_the_tower() {
            true => Needs::FEATURES,
            false => Needs {
                vision_transformer: true,
                ..Needs::pixels(model.image.image_size())
            },
        }
    }

    fn check(&self, model: &ModelConfig) -> Result<(), SettingError> {
        let refuse = |problem| Err(SettingError::new("tune", problem));
        match (self.tuned, &model.image) {
            (Tuned::Mlp(layers), _) if !(2..=MOST_LAYERS).contains(&layers) => {
                refuse(format!("mlp-N has 2 to {MOST_LAYERS} layers"))
            }
            (Tuned::Partial(0), _) => refuse("partial-N has at least one block".to_owned()),
            (Tuned::Partial(blocks), ImageTowerConfig::Vit(vit)) if blocks > vit.layers => {
                refuse(format!(
                    "partial-{blocks} asks for {blocks} blocks; the tower has {}",
                    vit.layers
                ))
            }
            (Tuned::Side, image @ ImageTowerConfig::Vit(_))
                if image.image_size() < alexnet::LEAST_SIDE =>
            {
                refuse(format!(
                    "side needs pictures of {} pixels; this model's have {}",
                    alexnet::LEAST_SIDE,
                    image.image_size()
                ))
            }
            _ => Ok(()),
        }
    }

    fn tensors(&self, model: &Model, classes: Size) -> Result<Vec<ExpectedTensor>, MethodError> {
        let width = model.config().embedding_width;
        let mut table = linear_head::tensors(classes, width);
        if let ImageTowerConfig::Vit(vit) = &model.config().image {
            let tuned = model
                .image_weights()
                .filter(|(name, _)| self.tuned.trains(name, vit.layers));
            table.extend(tuned.map(|(name, shape)| ExpectedTensor::new(name.to_owned(), shape)));
            if matches!(self.tuned, Tuned::Adapter | Tuned::AdapterAsPublished) {
                let of_layers = (0..vit.layers).flat_map(|layer| adapter(layer, vit.width));
                table.extend(of_layers.map(|(name, shape)| ExpectedTensor::new(name, &shape)));
            }
        }
        if self.tuned == Tuned::Side {
            table.extend(side::tensors(width));
        }
        for layer in 0..self.tuned.hidden_layers() {
            let parts = hidden_parts(layer, width).into_iter();
            table.extend(parts.map(|(name, shape)| ExpectedTensor::new(name, &shape)));
        }
        Ok(table)
    }

    fn begin(&self, lesson: &Lesson<'_, Classify>) -> Result<Beginning<Classify>, MethodError> {
        let prompt = Finetuned::of_model(lesson.model, self)?;
        let device = lesson.model.device();
        let width = lesson.model.config().embedding_width;
        let mut random = ChaCha8Rng::seed_from_u64(lesson.seed);
        let mut parameters = Parameters::default();
        if let Some(tower) = &prompt.tower {
            let (layers, d) = (tower.config().layers, tower.config().width);
            let own = lesson.model.image_parameters()?;
            let names = own.names().filter(|name| self.tuned.trains(name, layers));
            for name in names {
                let shape = own.require_any(name)?;
                parameters.insert_data(name, shape, own.data(name)?, device);
            }
            if matches!(self.tuned, Tuned::Adapter | Tuned::AdapterAsPublished) {
                for layer in 0..layers {
                    self.adapter(&mut parameters, layer, d, &mut random, device);
                }
            }
        }
        if self.tuned == Tuned::Side {
            side::initialise(&mut parameters, lesson.initial, width, &mut random, device)?;
        }
        for layer in 0..self.tuned.hidden_layers() {
            hidden_layer(&mut parameters, layer, width, &mut random, device);
        }
        let shape = [lesson.class_names.len(), width];
        linear_head::initialise(&mut parameters, shape, &mut random, device);
        Ok(Beginning {
            prompt: Box::new(prompt),
            parameters,
        })
    }

    /// Batch norms get the statistics of all examples, where the official code keeps a running mean over batches.
    fn finish(
        &self,
        lesson: &Lesson<'_, Classify>,
        _prompt: &dyn Prompt<Classify>,
        parameters: &mut Parameters,
    ) -> Result<(), MethodError> {
        if self.tuned.hidden_layers() == 0 {
            return Ok(());
        }
        let device = lesson.model.device();
        let mut x = lesson.train.inputs.first_features(device)?;
        for layer in 0..self.tuned.hidden_layers() {
            let activated = activated(parameters, layer, x)?;
            let (mean, variance) = moments(activated.clone());
            x = normed(parameters, layer, activated, mean.clone(), variance.clone())?;
            parameters.insert_constant(&format!("mlp.{layer}.norm.running_mean"), mean);
            parameters.insert_constant(&format!("mlp.{layer}.norm.running_var"), variance);
        }
        Ok(())
    }

    fn open(
        &self,
        model: &Model,
        _class_names: &[String],
        parameters: &Parameters,
        _stored: Option<Tensor<2>>,
    ) -> Result<Box<dyn Prompt<Classify>>, MethodError> {
        if self.tuned == Tuned::Side {
            side::check(parameters, model.config().embedding_width)?;
        }
        Ok(Box::new(Finetuned::of_model(model, self)?))
    }

    /// Jia et al. 2022, appendix A; rate and decay from the middle of their grids.
    fn published(&self, _shots: Option<usize>) -> Recipe {
        let (learning_rate, optimizer) = match self.tuned {
            Tuned::Full => (1e-4, Optimizer::adam_w(1e-2)),
            _ => (
                0.25,
                Optimizer::Sgd {
                    momentum: 0.9,
                    weight_decay: 1e-3,
                },
            ),
        };
        Recipe {
            batch_size: Some(64),
            least_area: 8,
            views: TrainingViews::Whole,
            fit: FitSettings {
                epochs: 100,
                learning_rate,
                optimizer,
                schedule: Schedule::EpochWarmupCosine { warmup_epochs: 10 },
            },
        }
    }

    /// The rates of `tune_vtab.py --train-type linear`, and `finetune` for the whole tower (KMnP/vpt).
    fn published_grid(&self) -> Option<Grid> {
        let rates: &[f32] = match self.tuned {
            Tuned::Full => &[0.005, 0.001, 0.0005, 0.0001],
            _ => &[50.0, 25.0, 10.0, 5.0, 2.5, 1.0, 0.5, 0.25, 0.1, 0.05],
        };
        Some(Grid::visual(rates, &self.published(None)))
    }

    /// AdamW, whose rates need no grid; chosen on one seed of two tasks of the icon benchmark.
    fn fast(&self, _shots: Option<usize>) -> Recipe {
        let (epochs, learning_rate) = match self.tuned {
            Tuned::Linear | Tuned::Mlp(_) => (100, 1e-2),
            Tuned::Partial(_) => (30, 2e-3),
            Tuned::Side => (30, 1e-3),
            Tuned::Full => (30, 3e-4),
            Tuned::Bias | Tuned::Adapter | Tuned::AdapterAsPublished => (30, 1e-2),
        };
        Recipe {
            batch_size: Some(32),
            fit: FitSettings {
                epochs,
                learning_rate,
                optimizer: Optimizer::adam_w(1e-2),
                schedule: Schedule::Cosine,
            },
            ..self.published(None)
        }
    }

    fn takes_other_classes(&self) -> bool {
        false
    }
}

impl FinetuneSettings {
    /// Adds the adapter of a layer of width d.
    fn adapter(
        &self,
        parameters: &mut Parameters,
        layer: usize,
        d: usize,
        random: &mut ChaCha8Rng,
        device: &Device,
    ) {
        let narrow = adapter_width(d);
        let down: Vec<f32> = match self.tuned {
            Tuned::AdapterAsPublished => vec![0.0; narrow * d],
            _ => Initial::Normal((1.0 / d as f32).sqrt()).draw(narrow * d, random),
        };
        // It begins as doing nothing.
        let values = [down, vec![0.0; narrow], vec![0.0; narrow * d], vec![0.0; d]];
        for ((name, shape), values) in adapter(layer, d).into_iter().zip(values) {
            parameters.insert_data(&name, &shape, values, device);
        }
    }
}

/// Name and shape of each tensor of the adapter of a layer of width d: down and up, weights before biases.
fn adapter(layer: usize, d: usize) -> [(String, Vec<usize>); 4] {
    let narrow = adapter_width(d);
    [
        ("downsample.weight", vec![narrow, d]),
        ("downsample.bias", vec![narrow]),
        ("upsample.weight", vec![d, narrow]),
        ("upsample.bias", vec![d]),
    ]
    .map(|(part, shape)| {
        let name = format!("visual.transformer.resblocks.{layer}.adapter_{part}");
        (name, shape)
    })
}

/// Name and shape of each tensor of a hidden layer of the classifier: the linear layer, and the batch norm behind it.
fn hidden_parts(layer: usize, width: usize) -> [(String, Vec<usize>); 6] {
    [
        ("weight", vec![width, width]),
        ("bias", vec![width]),
        ("norm.weight", vec![width]),
        ("norm.bias", vec![width]),
        ("norm.running_mean", vec![width]),
        ("norm.running_var", vec![width]),
    ]
    .map(|(part, shape)| (format!("mlp.{layer}.{part}"), shape))
}

/// Adds a hidden layer of the classifier.
fn hidden_layer(
    parameters: &mut Parameters,
    layer: usize,
    width: usize,
    random: &mut ChaCha8Rng,
    device: &Device,
) {
    // Kaiming's normal distribution by the outputs.
    let deviation = (2.0 / width as f32).sqrt();
    let values = [
        Initial::Normal(deviation).draw(width * width, random),
        Initial::linear(width).draw(width, random),
        vec![1.0; width],
        vec![0.0; width],
        vec![0.0; width],
        vec![1.0; width],
    ];
    for ((name, shape), values) in hidden_parts(layer, width).into_iter().zip(values) {
        parameters.insert_data(&name, &shape, values, device);
    }
    for statistic in ["running_mean", "running_var"] {
        parameters.hold_constant(&format!("mlp.{layer}.norm.{statistic}"));
    }
}

/// A classifier behind a tower of which parts may be other than they were.
#[derive(Clone, Debug)]
struct Finetuned {
    tuned: Tuned,
    /// Absent where the method is given its features.
    tower: Option<Box<VisionTransformer>>,
    /// Whether the tower has the learned parts already: nothing is learned any more.
    is_ready: bool,
    normalisation: PixelNormalisation,
}

impl Finetuned {
    fn of_model(model: &Model, settings: &FinetuneSettings) -> Result<Self, MethodError> {
        let tower = match settings.tuned.leaves_the_tower() {
            true => None,
            false => match model.image_tower()? {
                ImageTower::Vit(tower) => Some(tower),
                _ => return Err(MethodError::NeedsVisionTransformer),
            },
        };
        Ok(Self {
            tuned: settings.tuned,
            tower,
            is_ready: false,
            normalisation: model.normalisation(),
        })
    }

    /// Features, or pixels in 0..1 -> features `[B, D]`.
    fn features(&self, parameters: &Parameters, inputs: &Inputs) -> Result<Tensor<2>, PromptError> {
        let Some(tower) = &self.tower else {
            return Ok(inputs.features()?);
        };
        let learned;
        let tower = match self.is_ready {
            true => tower,
            false => {
                learned = Self::learned(tower, parameters)?;
                &learned
            }
        };
        let pixels = self.normalisation.forward(inputs.pixels()?);
        let features = tower.forward(pixels.clone());
        match self.tuned {
            Tuned::Side => side::mixed(parameters, pixels, features),
            _ => Ok(features),
        }
    }

    /// The tower with its learned parts.
    fn learned(
        tower: &VisionTransformer,
        parameters: &Parameters,
    ) -> Result<VisionTransformer, PromptError> {
        Ok(tower.with(&mut &*parameters, |name| parameters.shape(name).is_some())?)
    }

    /// Features `[B, D]` -> the classifier's input. While learning the norms are those of the batch, and some elements are
    /// left out.
    fn hidden(
        &self,
        parameters: &Parameters,
        features: Tensor<2>,
        mut random: Option<&mut ChaCha8Rng>,
    ) -> Result<Tensor<2>, PromptError> {
        let mut x = features;
        for layer in 0..self.tuned.hidden_layers() {
            let activated = activated(parameters, layer, x)?;
            let (mean, variance) = match random {
                Some(_) => moments(activated.clone()),
                None => (
                    parameters.get::<1>(&format!("mlp.{layer}.norm.running_mean"))?,
                    parameters.get::<1>(&format!("mlp.{layer}.norm.running_var"))?,
                ),
            };
            x = normed(parameters, layer, activated, mean, variance)?;
            if let Some(random) = &mut random {
                x = dropout(x, DROPOUT, random);
            }
        }
        Ok(x)
    }
}

/// ReLU of the linear layer.
fn activated(
    parameters: &Parameters,
    layer: usize,
    x: Tensor<2>,
) -> Result<Tensor<2>, PromptError> {
    let weight = parameters.get::<2>(&format!("mlp.{layer}.weight"))?;
    let bias = parameters.get::<1>(&format!("mlp.{layer}.bias"))?;
    Ok(activation::relu(
        x.matmul(weight.transpose()) + bias.unsqueeze(),
    ))
}

/// Mean and variance of each column of `[B, D]`.
fn moments(x: Tensor<2>) -> (Tensor<1>, Tensor<1>) {
    let width = x.dims()[1];
    let mean = x.clone().mean_dim(0); // [1, D]
    let variance = (x - mean.clone()).square().mean_dim(0);
    (mean.reshape([width]), variance.reshape([width]))
}

/// Batch norm.
fn normed(
    parameters: &Parameters,
    layer: usize,
    x: Tensor<2>,
    mean: Tensor<1>,
    variance: Tensor<1>,
) -> Result<Tensor<2>, PromptError> {
    let weight = parameters.get::<1>(&format!("mlp.{layer}.norm.weight"))?;
    let bias = parameters.get::<1>(&format!("mlp.{layer}.norm.bias"))?;
    let factor = weight / (variance + BATCH_NORM_EPSILON).sqrt();
    Ok((x - mean.unsqueeze()) * factor.unsqueeze() + bias.unsqueeze())
}

impl Prompt<Classify> for Finetuned {
    fn forward(&self, parameters: &Parameters, inputs: &Inputs) -> Result<Tensor<2>, PromptError> {
        let features = self.features(parameters, inputs)?;
        let hidden = self.hidden(parameters, features, None)?;
        Ok(linear_head::logits(parameters, hidden)?)
    }

    fn ready(
        &self,
        parameters: &Parameters,
    ) -> Result<Option<Box<dyn Prompt<Classify>>>, PromptError> {
        let Some(tower) = &self.tower else {
            return Ok(None);
        };
        let tower = Some(Box::new(Self::learned(tower, parameters)?));
        let ready = self.clone();
        Ok(Some(Box::new(Self {
            tower,
            is_ready: true,
            ..ready
        })))
    }

    fn step(
        &self,
        leaves: &Parameters,
        batch: &Batch<Classify>,
    ) -> Result<StepOutcome, PromptError> {
        let features = self.features(leaves, &batch.inputs)?;
        let hidden = self.hidden(leaves, features, Some(&mut batch.random()))?;
        Ok(batch.outcome(linear_head::logits(leaves, hidden)?, leaves))
    }
}
