//! Our side of each row, through the library's public interface.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, Tensor, TensorData};
use contextune::backbone::{PixelNormalisation, TextTower, TextTowerConfig, VitConfig};
use contextune::checkpoint::Normalization;
use contextune::data::{self, FeatureRows, Input, Split};
use contextune::input::{Examples, InputKind, InputTable, Views};
use contextune::method::image::pixel::{PixelSettings, Place};
use contextune::method::image::source::{Output, Prompted, Source, Target};
use contextune::method::image::vpt::{Vpt, VptSettings};
use contextune::method::text::cocoop::CoCoOp;
use contextune::method::text::coop::{
    CONTEXT, CoOp, ContextLayout, Placeholder, Position, prompt_layout,
};
use contextune::method::text::zeroshot::classifier;
use contextune::parameters::Parameters;
use contextune::run::peak_memory_bytes;
use contextune::task::{Classify, Predictor, Prompt, Task as _, Training, TrainingViews};
use contextune::text::{Overlong, TemplateSet, Tokenizer};
use contextune::train::{
    EpochMetrics, FitSettings, Observer, Optimizer, Schedule, TrainError, TrainingState, fit,
};

use crate::model::{RandomWeights, TEXT, image_tower, text_tower, vision_transformer, vit};
use crate::program::work;
use crate::table::Ours;
use crate::{Measurement, floor};

/// Width of the joint space.
const EMBEDDING: usize = 512;
/// Timed repetitions, after one that is not.
const REPEATS: usize = 5;

pub fn measure(ours: &Ours) -> Result<Measurement> {
    let device = Device::flex();
    match *ours {
        Ours::CoOp {
            classes,
            context_length,
            batch,
            position,
            class_specific,
            layers,
            image_tower: beside,
        } => {
            let _loaded = beside.map(|name| image_tower(name, &device));
            let layout = ContextLayout {
                class_specific,
                position: position.parse().ok().context("a position")?,
                ..shared_context(context_length)
            };
            let (prompt, parameters, forward) = coop(classes, &layout, layers, &device)?;
            let features = examples(batch, EMBEDDING, classes, &device);
            steps(&prompt, parameters, &features, 2.0 * forward, &device)
        }
        Ours::CoCoOp {
            classes,
            context_length,
            batch,
            layers,
        } => {
            let tower = tower(layers, &device);
            let placeholders = placeholders(classes, context_length);
            let of_one = prompt_layout(&placeholders, &shared_context(context_length));
            let flop = 2.0 * batch as f64 * floor::forest_forward(&of_one, tower.config());
            let scale = logit_scale(&device);
            let prompt = CoCoOp::new(&tower, scale, placeholders, context_length)?;
            let mut random = RandomWeights::new(&device);
            let mut parameters = Parameters::default();
            let hidden = EMBEDDING / 16;
            for (name, shape) in [
                (CONTEXT, &[context_length, TEXT.width][..]),
                ("meta_net.linear1.weight", &[hidden, EMBEDDING]),
                ("meta_net.linear1.bias", &[hidden]),
                ("meta_net.linear2.weight", &[TEXT.width, hidden]),
                ("meta_net.linear2.bias", &[TEXT.width]),
            ] {
                let values = random.values(shape.iter().product(), 0.04);
                parameters.insert_data(name, shape, values, &device);
            }
            let features = examples(batch, EMBEDDING, classes, &device);
            steps(&prompt, parameters, &features, flop, &device)
        }
        Ours::Classifier { classes, layers } => {
            let tower = tower(layers, &device);
            let tokenizer = Tokenizer::clip(TEXT.vocabulary_size)?;
            let names = class_names(classes);
            let templates = TemplateSet::from_argument("openai-80")?;
            let prompts = names
                .iter()
                .flat_map(|name| templates.fill(name))
                .map(|text| tokenizer.tokenize(&text, TEXT.context_length, Overlong::Refuse))
                .collect::<Result<Vec<_>, _>>()?;
            let flop = floor::frozen_forward(&prompts, tower.config());
            classifier(&tower, &tokenizer, &names[..1], &templates)?; // warms up
            let started = Instant::now();
            classifier(&tower, &tokenizer, &names, &templates)?.into_data();
            Ok(measurement(vec![started.elapsed().as_secs_f64()], flop))
        }
        Ours::Evaluate {
            classes,
            images,
            layers,
        } => {
            let (prompt, parameters, forward) =
                coop(classes, &shared_context(16), layers, &device)?;
            let dataset = data::open(&features_file(images, classes), 0)?;
            let file = dataset.features.as_ref().context("a features file")?;
            let (inputs, labels) = Classify::examples(&dataset, Split::Train);
            let rows: Vec<usize> = inputs
                .into_iter()
                .filter_map(|input| match input {
                    Input::FeatureRow(row) => Some(*row),
                    _ => None,
                })
                .collect();
            let features = Examples::new(InputTable::stored(file, &rows, Views::Whole), labels);
            let flop = forward + 2.0 * (images * classes * EMBEDDING) as f64;
            repeat(flop, || {
                let ready = prompt
                    .ready(&parameters)?
                    .context("a prompt for any picture")?;
                let names = dataset.class_names.clone();
                Predictor::new(ready, parameters.clone(), names, &device)?.accuracy(&features)?;
                Ok(())
            })
        }
        Ours::ImageTower { model, batch } => {
            let tower = image_tower(model, &device);
            let values = RandomWeights::new(&device).values(batch * 3 * 224 * 224, 4.0);
            let pixels =
                Tensor::<4>::from_data(TensorData::new(values, [batch, 3, 224, 224]), &device);
            // Multiply-adds of one picture (Radford et al. 2021; counted for the modified ResNet).
            let flop = batch as f64
                * match model {
                    "ViT-B-32" => 8.8e9,
                    "ViT-B-16" => 35.1e9,
                    _ => 12.2e9,
                };
            repeat(flop, || {
                tower.forward(pixels.clone()).into_data();
                Ok(())
            })
        }
        Ours::Vpt {
            prompts,
            batch,
            layers,
        } => {
            const CLASSES: usize = 100;
            let config = VitConfig { layers, ..vit(16) };
            let tower = vision_transformer(&config, &device);
            let settings = VptSettings {
                tokens: prompts,
                ..VptSettings::default()
            };
            let prompt = Vpt::new(&settings, tower, openai_normalisation(&device))?;
            let parameters = prompt.initial_parameters(CLASSES, 1)?;
            let flop = 2.0 * batch as f64 * floor::vit_forward(&config);
            let pixels = pixels(batch, CLASSES, &device);
            steps(&prompt, parameters, &pixels, flop, &device)
        }
        Ours::Pixels {
            size,
            classes,
            batch,
        } => {
            let settings = PixelSettings {
                place: Place::Padding,
                size,
                unit_gradient: false,
                target: Target::Words {
                    templates: String::new(),
                },
            };
            let words = RandomWeights::new(&device).values(classes * EMBEDDING, 1.0);
            let source = Source {
                tower: image_tower("ViT-B-32", &device),
                image_size: 224,
                normalisation: openai_normalisation(&device),
                output: Output::Words {
                    words: Tensor::from_data(TensorData::new(words, [classes, EMBEDDING]), &device),
                    logit_scale: logit_scale(&device),
                },
            };
            let prompt = Prompted::new(&settings, source)?;
            let parameters = prompt.initial_parameters(1);
            let flop = 2.0 * batch as f64 * floor::vit_forward(&vit(32));
            let pixels = pixels(batch, classes, &device);
            steps(&prompt, parameters, &pixels, flop, &device)
        }
        Ours::Program { .. } => bail!("a program is measured from outside"),
    }
}

/// Makes what [`measure`] reads, in a process of its own: its memory does not count.
pub fn prepare(ours: &Ours) -> Result<()> {
    let Ours::Evaluate {
        classes, images, ..
    } = *ours
    else {
        return Ok(());
    };
    let path = features_file(images, classes);
    if path.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(work())?;
    let labels: Vec<usize> = (0..images).map(|image| image % classes).collect();
    let rows = FeatureRows {
        image_features: &RandomWeights::new(&Device::flex()).values(images * EMBEDDING, 1.0),
        width: EMBEDDING,
        labels: &labels,
        class_names: &(0..classes)
            .map(|class| class.to_string())
            .collect::<Vec<_>>(),
        ..FeatureRows::default()
    };
    Ok(rows.write(&path)?)
}

fn features_file(images: usize, classes: usize) -> PathBuf {
    work().join(format!("features-{images}-{classes}.safetensors"))
}

/// A context for all classes, their names at its end.
fn shared_context(length: usize) -> ContextLayout {
    ContextLayout {
        length,
        class_specific: false,
        position: Position::End,
        published_words: None,
    }
}

/// A prompt with a random context, and the operations of encoding its classes.
fn coop(
    classes: usize,
    layout: &ContextLayout,
    layers: usize,
    device: &Device,
) -> Result<(CoOp, Parameters, f64)> {
    let tower = tower(layers, device);
    let placeholders = placeholders(classes, layout.length);
    let prompt = CoOp::new(&tower, logit_scale(device), &placeholders, layout)?;
    let shape = layout.shape(classes, TEXT.width);
    let mut parameters = Parameters::default();
    let values = RandomWeights::new(device).values(shape.iter().product(), 0.04);
    parameters.insert_data(CONTEXT, &shape, values, device);
    let forward = floor::forest_forward(&prompt_layout(&placeholders, layout), tower.config());
    Ok((prompt, parameters, forward))
}

fn tower(layers: usize, device: &Device) -> TextTower {
    let config = TextTowerConfig { layers, ..TEXT };
    text_tower(&config, EMBEDDING, device)
}

fn logit_scale(device: &Device) -> Tensor<1> {
    Tensor::from_floats([100f32.ln()], device)
}

/// Prompts whose class names have one to three tokens, no two alike; the peer follows the same rule.
fn placeholders(classes: usize, context_length: usize) -> Vec<Placeholder> {
    const PLACEHOLDER: u32 = 343;
    const FULL_STOP: u32 = 269;
    let mut next = 1000;
    (0..classes)
        .map(|class| {
            let name_length = 1 + usize::from(class % 3 == 0) + usize::from(class % 7 == 0);
            let name = next..next + name_length as u32;
            next = name.end;
            let mut ids = vec![49_406];
            ids.extend(vec![PLACEHOLDER; context_length]);
            ids.extend(name);
            ids.extend([FULL_STOP, 49_407]);
            Placeholder { ids, name_length }
        })
        .collect()
}

/// The first of ImageNet's class names, as open_clip gives them.
fn class_names(count: usize) -> Vec<String> {
    let names = include_str!("../class-names.txt").lines();
    names.take(count).map(str::to_owned).collect()
}

/// Random features of this width.
fn examples(count: usize, width: usize, classes: usize, device: &Device) -> Examples<usize> {
    let values = RandomWeights::new(device).values(count * width, 1.0);
    let labels = (0..count).map(|example| example % classes).collect();
    Examples::of_features(&values, width, 1, labels)
}

/// Random pictures.
fn pixels(batch: usize, classes: usize, device: &Device) -> Examples<usize> {
    let kind = InputKind::Pixels {
        side: 224,
        margin: true,
    };
    let values = RandomWeights::new(device).values(batch * kind.values(0), 1.0);
    let labels = (0..batch).map(|example| example % classes).collect();
    Examples::in_memory(kind, &values, 0, 1, labels)
}

fn openai_normalisation(device: &Device) -> PixelNormalisation {
    let Normalization { mean, std } = Normalization::OPENAI;
    PixelNormalisation::new(mean, std, device)
}

/// Whole training steps, optimiser included, as the loop does them.
fn steps(
    prompt: &dyn Prompt<Classify>,
    parameters: Parameters,
    examples: &Examples<usize>,
    flop: f64,
    device: &Device,
) -> Result<Measurement> {
    struct Clock(Vec<f64>);

    impl Observer for Clock {
        fn epoch(
            &mut self,
            metrics: &EpochMetrics,
            _state: &TrainingState,
        ) -> Result<ControlFlow<()>, TrainError> {
            self.0.push(metrics.seconds);
            Ok(ControlFlow::Continue(()))
        }
    }

    let batch = examples.count();
    let training = Training::new(prompt, examples, TrainingViews::Whole, batch, 1, device);
    let settings = FitSettings {
        epochs: 1 + REPEATS,
        learning_rate: 0.002,
        optimizer: Optimizer::Sgd {
            momentum: 0.9,
            weight_decay: 5e-4,
        },
        schedule: Schedule::CoOp { warmup: 1e-5 },
    };
    let mut clock = Clock(Vec::new());
    fit(
        &training,
        &settings,
        &mut TrainingState::new(parameters),
        &mut clock,
    )?;
    Ok(measurement(clock.0.split_off(1), flop))
}

fn repeat(flop: f64, mut work: impl FnMut() -> Result<()>) -> Result<Measurement> {
    work()?;
    let seconds = (0..REPEATS)
        .map(|_| {
            let started = Instant::now();
            work()?;
            Ok(started.elapsed().as_secs_f64())
        })
        .collect::<Result<_>>()?;
    Ok(measurement(seconds, flop))
}

fn measurement(seconds: Vec<f64>, flop: f64) -> Measurement {
    Measurement {
        seconds,
        peak_memory_bytes: peak_memory_bytes().unwrap_or(0),
        flop: Some(flop),
    }
}
