//! `contextune pretrain`: contrastive training of a small CLIP on captioned pictures.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use burn::tensor::{Tensor, TensorData};
use contextune::backbone::{
    Clip, ImageTowerConfig, ModelConfig, ParameterSource, PixelNormalisation, TextTowerConfig,
};
use contextune::checkpoint::{self, Normalization, Precision};
use contextune::data::{Dataset, Example, Input, NamedFeatures, Split};
use contextune::evaluate::{Retrieval, retrieval};
use contextune::features::{PictureEncoder, PictureReader, Request, View};
use contextune::image::{self, DecodeOptions, Preprocess, RandomResizedCrop};
use contextune::model::{Model, ModelOptions};
use contextune::objective::similarity::normalise;
use contextune::pretrain::{
    CaptionedPicture, Captions, Distillation, IMAGE_TEACHER_HEAD, ImageTeacher, Initialiser,
    PatchDropping, Pretraining, PretrainingSettings, TextTeacher,
};
use contextune::run::RunFolder;
use contextune::text::{Overlong, Tokenizer};
use contextune::train::{
    Collector, EpochMetrics, FitSettings, Observer, Optimizer, Parameters, Progress, Schedule,
    TrainError, TrainingState, fit,
};
use indicatif::ProgressBar;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::examples;
use crate::interrupt::{AFTER_THIS_EPOCH, Stopped};
use crate::options::{Context, WrongUsage};

/// The name in `run.toml` and `result.json`.
pub const METHOD: &str = "pretrain";
/// The trained model in the run folder, fp16.
const MODEL: &str = "model.safetensors";
/// Captions beside a CoOp split: for each picture its name and other words for it.
const CAPTIONS: &str = "captions.json";
/// Share of a run with --drop-patches that sees whole pictures, at its end.
const WHOLE_AT_END: f32 = 0.1;

/// Train a small CLIP from scratch, or further, on pictures with names.
///
/// The data are read as by the other commands; a file captions.json beside the split may give more words for each picture.
///
/// Example: contextune pretrain --data icon-concepts --epochs 60 --out runs/icons
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Pictures with names: a folder of class folders or a CoOp data set; val pictures measure retrieval.
    #[arg(long)]
    data: PathBuf,
    /// Folder for the run; the model is written to model.safetensors in it.
    #[arg(long)]
    out: PathBuf,
    /// Go on from this model (its architecture is kept).
    #[arg(long, value_name = "MODEL", conflicts_with = "architecture")]
    from: Option<String>,
    /// Architecture as JSON; without it that of the model in this program.
    #[arg(long, value_name = "FILE")]
    architecture: Option<PathBuf>,
    /// Features of frozen teachers to imitate as well: a safetensors file with image_features of any width (metadata
    /// `paths`; some of the pictures are enough) or text_features as wide as the joint space (metadata `texts`).
    #[arg(long, value_name = "FILE")]
    distill: Vec<PathBuf>,
    /// Factor of the imitation losses.
    #[arg(long, default_value_t = 1.0)]
    distill_weight: f32,
    /// Share of each picture's patches that a step leaves out, which makes it as much cheaper: 0 to below 1; the last
    /// tenth of the run sees whole pictures. Vision transformers only.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    drop_patches: f32,
    /// Passes over the training pictures.
    #[arg(long, default_value_t = 60)]
    epochs: usize,
    /// Pictures in a step.
    #[arg(long, default_value_t = 128)]
    batch_size: usize,
    /// Highest learning rate.
    #[arg(long, default_value_t = 1e-3)]
    lr: f32,
    /// Decoupled weight decay of AdamW.
    #[arg(long, default_value_t = 0.1)]
    weight_decay: f32,
    /// Epochs over which the learning rate rises.
    #[arg(long, default_value_t = 2)]
    warmup_epochs: usize,
    /// Seed of weights, batches, captions and views.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Epochs between two measurements of retrieval on val.
    #[arg(long, default_value_t = 5)]
    evaluate_every: usize,
    /// Replace the run folder if it exists.
    #[arg(long)]
    force: bool,
}

/// A share of a whole, from 0 to below 1.
fn share(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(share) if (0.0..1.0).contains(&share) => Ok(share),
        _ => Err("expected a number from 0 to below 1".into()),
    }
}

/// Everything a resumed run needs to know; `run.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    method: String,
    data: PathBuf,
    from: Option<String>,
    distill: Vec<PathBuf>,
    distill_weight: f32,
    patch_dropping: Option<PatchDropping>,
    batch_size: usize,
    warmup_epochs: usize,
    seed: u64,
    evaluate_every: usize,
    fit: FitSettings,
    normalization: Normalization,
    config: ModelConfig,
}

/// A line of `metrics.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct PretrainMetrics {
    #[serde(flatten)]
    epoch: EpochMetrics,
    #[serde(skip_serializing_if = "Option::is_none")]
    val: Option<Retrieval>,
}

/// `result.json` of a pre-training run.
#[derive(Debug, Serialize, Deserialize)]
struct PretrainResult {
    method: String,
    parameters: usize,
    train_seconds: f64,
    val: Option<Retrieval>,
    test: Option<Retrieval>,
}

/// Starts a run.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    let (config, normalization) = match (&arguments.from, &arguments.architecture) {
        (Some(name), _) => {
            let model = Model::open(Some(name), ModelOptions::default(), &context.device, |_| ())?;
            (model.config().clone(), model.normalization_values())
        }
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let config = serde_json::from_str(&text)
                .with_context(|| format!("{} is no architecture", path.display()))?;
            checkpoint::check_config(path, &config)?;
            (config, Normalization::OPENAI)
        }
        (None, None) => {
            let model = Model::open(None, ModelOptions::default(), &context.device, |_| ())?;
            (model.config().clone(), Normalization::OPENAI)
        }
    };
    let patch_dropping = (arguments.drop_patches > 0.0).then_some(PatchDropping {
        share: arguments.drop_patches,
        whole_at_end: WHOLE_AT_END,
    });
    if !matches!(config.image, ImageTowerConfig::Vit(_)) {
        // A ResNet trains on the statistics of the batch; this one computes with those it was given.
        bail!(WrongUsage(
            "pretrain trains vision transformers; this image tower is a ResNet".into()
        ));
    }
    let settings = Settings {
        method: METHOD.into(),
        data: arguments.data,
        from: arguments.from,
        distill: arguments.distill,
        distill_weight: arguments.distill_weight,
        patch_dropping,
        batch_size: arguments.batch_size,
        warmup_epochs: arguments.warmup_epochs,
        seed: arguments.seed,
        evaluate_every: arguments.evaluate_every.max(1),
        fit: FitSettings {
            epochs: arguments.epochs,
            learning_rate: arguments.lr,
            optimizer: Optimizer::AdamW {
                betas: [0.9, 0.98],
                epsilon: 1e-6,
                weight_decay: arguments.weight_decay,
            },
            schedule: Schedule::WarmupCosine { warmup_steps: 0 },
        },
        normalization,
        config,
    };
    train(settings, context, |settings| {
        Ok(RunFolder::create(
            &arguments.out,
            settings,
            arguments.force,
        )?)
    })
}

/// The text tower's architecture.
fn text_config(config: &ModelConfig) -> Result<&TextTowerConfig> {
    let text = config.text.as_ref();
    text.context("this architecture has no text tower; pretrain trains a CLIP, which has two")
}

/// Trains from the last saved state in the folder, or from the beginning. The folder is asked for when everything else
/// was read and found good.
pub fn train(
    mut settings: Settings,
    context: &Context,
    folder: impl FnOnce(&Settings) -> Result<RunFolder>,
) -> Result<()> {
    let dataset = examples::open(&settings.data, settings.seed, context)?;
    let text = text_config(&settings.config)?;
    let tokenizer = Arc::new(Tokenizer::clip(text.vocabulary_size)?);
    let pictures = load_pictures(&dataset, context)?;
    let distillation = load_teachers(&settings, &dataset, &tokenizer, context)?;
    let teacher_width = distillation
        .as_ref()
        .and_then(|teachers| teachers.images.as_ref())
        .map(|teacher| teacher.targets.dims()[1]);
    let Normalization { mean, std } = settings.normalization;
    let normalisation = PixelNormalisation::new(mean, std, &context.device);
    let evaluator = Evaluator {
        settings: settings.clone(),
        dataset: &dataset,
        tokenizer: Arc::clone(&tokenizer),
        normalisation: normalisation.clone(),
        context,
    };
    let task = Pretraining::new(
        PretrainingSettings {
            config: settings.config.clone(),
            text: text.clone(),
            normalisation,
            tokenizer,
            views: RandomResizedCrop {
                scale: (0.5, 1.0),
                ..RandomResizedCrop::default()
            },
            patch_dropping: settings.patch_dropping,
            distillation,
            batch_size: settings.batch_size,
            seed: settings.seed,
            device: context.device.clone(),
        },
        pictures,
    );
    let steps = contextune::train::Task::steps(&task);
    if steps == 0 {
        bail!(
            "{} has fewer training names than one batch of {}: lower --batch-size",
            settings.data.display(),
            settings.batch_size
        );
    }
    settings.fit.schedule = Schedule::WarmupCosine {
        warmup_steps: settings.warmup_epochs * steps,
    };
    let folder = folder(&settings)?;
    let mut state = match folder.state(&context.device)? {
        Some(state) => state,
        None => TrainingState::new(initial_parameters(&settings, teacher_width, context)?),
    };
    let mut watch = Watch {
        folder: &folder,
        metrics: folder.metrics()?,
        evaluator,
        bar: context.screen.bar("pretrain", settings.fit.epochs * steps),
    };
    watch.bar.set_position((state.epochs_done * steps) as u64);
    let gentle = context.interrupt.gentle(AFTER_THIS_EPOCH);
    fit(&task, &settings.fit, &mut state, &mut watch)?;
    drop(gentle);
    watch.bar.finish_and_clear();
    Stopped::check(folder.path(), state.epochs_done, settings.fit.epochs)?;

    let train_seconds = watch.metrics.iter().map(|line| line.epoch.seconds).sum();
    let result = PretrainResult {
        method: METHOD.into(),
        parameters: model_elements(&state.parameters),
        train_seconds,
        val: watch.evaluator.retrieval(&state.parameters, Split::Val)?,
        test: watch.evaluator.retrieval(&state.parameters, Split::Test)?,
    };
    folder.finish(&result)?;
    println!("{}", serde_json::to_string_pretty(&result)?);
    Ok(())
}

/// The model's parameters, and the map to an image teacher's space of this width.
fn initial_parameters(
    settings: &Settings,
    teacher_width: Option<usize>,
    context: &Context,
) -> Result<Parameters> {
    let mut parameters = model_parameters(settings, context)?;
    if let Some(width) = teacher_width {
        let shape = [settings.config.embedding_width, width];
        let mut initialiser = Initialiser::new(
            text_config(&settings.config)?,
            settings.seed,
            &context.device,
        );
        parameters.insert(
            IMAGE_TEACHER_HEAD,
            initialiser.parameter(IMAGE_TEACHER_HEAD, shape)?,
        );
    }
    Ok(parameters)
}

fn model_elements(parameters: &Parameters) -> usize {
    let head = parameters.shape(IMAGE_TEACHER_HEAD).unwrap_or(&[0]);
    parameters.elements() - head.iter().product::<usize>()
}

fn model_parameters(settings: &Settings, context: &Context) -> Result<Parameters> {
    match &settings.from {
        Some(name) => {
            let model = Model::open(Some(name), ModelOptions::default(), &context.device, |_| ())?;
            Ok(model.parameters()?)
        }
        None => {
            let initialiser = Initialiser::new(
                text_config(&settings.config)?,
                settings.seed,
                &context.device,
            );
            let mut collector = Collector::new(initialiser);
            Clip::build(
                &mut collector,
                &settings.config,
                text_config(&settings.config)?,
            )?;
            Ok(collector.into_parameters())
        }
    }
}

/// Decodes all training pictures into memory.
fn load_pictures(dataset: &Dataset, context: &Context) -> Result<Vec<CaptionedPicture>> {
    let captions = captions(dataset)?;
    let bar = context.screen.bar("decode", dataset.train.len());
    let pictures = dataset
        .train
        .par_iter()
        .map(|example| {
            let path = picture_path(example)?;
            let name = dataset.class_names[example.label].replace('_', " ");
            let others = captions
                .get(&relative(dataset, path))
                .map(|texts| {
                    texts
                        .iter()
                        .filter(|&text| *text != name)
                        .cloned()
                        .collect()
                })
                .unwrap_or_else(Vec::new);
            let picture = image::open(path, &DecodeOptions::default())?.into_rgb();
            bar.inc(1);
            Ok(CaptionedPicture {
                picture,
                name: example.label,
                captions: Captions::new(name, others),
            })
        })
        .collect();
    bar.finish_and_clear();
    pictures
}

fn captions(dataset: &Dataset) -> Result<HashMap<String, Vec<String>>> {
    let beside = dataset
        .root
        .ancestors()
        .take(2)
        .map(|folder| folder.join(CAPTIONS))
        .find(|path| path.is_file());
    match beside {
        None => Ok(HashMap::new()),
        Some(path) => {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            serde_json::from_str(&text).with_context(|| {
                format!("{} is no list of captions for each picture", path.display())
            })
        }
    }
}

fn load_teachers(
    settings: &Settings,
    dataset: &Dataset,
    tokenizer: &Tokenizer,
    context: &Context,
) -> Result<Option<Distillation>> {
    /// Texts imitated in each step for every picture in it.
    const TEXTS_PER_PICTURE: usize = 2;
    let mut teachers = Distillation {
        images: None,
        texts: None,
        weight: settings.distill_weight,
    };
    for path in &settings.distill {
        let file = NamedFeatures::read(path)?;
        if let Some(features) = file.images {
            let place: HashMap<&str, usize> = features.places();
            let rows = dataset
                .train
                .iter()
                .map(|example| {
                    let name = relative(dataset, picture_path(example)?);
                    Ok(place.get(name.as_str()).copied())
                })
                .collect::<Result<Vec<_>>>()?;
            let known = rows.iter().flatten().count();
            if known == 0 {
                bail!(
                    "{} has features of none of the training pictures",
                    path.display()
                );
            }
            context.screen.remark(format!(
                "{} knows {known} of {} training pictures",
                path.display(),
                rows.len()
            ));
            teachers.images = Some(ImageTeacher {
                targets: features.tensor(&context.device),
                rows,
            });
        }
        if let Some(features) = file.texts {
            if features.width != settings.config.embedding_width {
                bail!(
                    "the text features in {} are {} wide, the joint space {}",
                    path.display(),
                    features.width,
                    settings.config.embedding_width
                );
            }
            let limit = text_config(&settings.config)?.context_length;
            let texts = features
                .names
                .iter()
                .map(|text| tokenizer.tokenize(text, limit, Overlong::Truncate))
                .collect::<Result<Vec<_>, _>>()?;
            teachers.texts = Some(TextTeacher::new(
                texts,
                features.tensor(&context.device),
                TEXTS_PER_PICTURE * settings.batch_size,
                settings.seed,
            ));
        }
    }
    let any = teachers.images.is_some() || teachers.texts.is_some();
    Ok(any.then_some(teachers))
}

fn picture_path(example: &Example) -> Result<&Path> {
    match &example.input {
        Input::Picture(path) => Ok(path),
        _ => bail!("pre-training needs pictures, not features"),
    }
}

/// A picture's path below the folder of pictures, as captions and teachers name it.
fn relative(dataset: &Dataset, path: &Path) -> String {
    let below = path.strip_prefix(&dataset.root).unwrap_or(path);
    let below = below.strip_prefix("images").unwrap_or(below);
    below.to_string_lossy().replace('\\', "/")
}

/// Measures retrieval on held-out pictures.
struct Evaluator<'a> {
    settings: Settings,
    dataset: &'a Dataset,
    tokenizer: Arc<Tokenizer>,
    normalisation: PixelNormalisation,
    context: &'a Context,
}

impl Evaluator<'_> {
    /// Pictures of a split against the names in it; `None` for an empty split.
    fn retrieval(&self, parameters: &Parameters, split: Split) -> Result<Option<Retrieval>> {
        let examples = self.dataset.split(split);
        if examples.is_empty() {
            return Ok(None);
        }
        let config = &self.settings.config;
        let text = text_config(config)?;
        let clip = Clip::build(&mut &*parameters, config, text)?;
        let encoder = PictureEncoder {
            tower: clip.image,
            normalisation: self.normalisation.clone(),
            reader: PictureReader {
                preprocess: Preprocess::new(config.image.image_size() as u32),
                decoding: DecodeOptions::default(),
            },
            device: self.context.device.clone(),
        };
        let requests = examples
            .iter()
            .map(|example| {
                Ok(Request {
                    path: picture_path(example)?,
                    view: View::Whole,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let mut features = Vec::new();
        let mut skipped = Vec::new();
        encoder.encode(&requests, |batch| {
            features.extend(batch.features);
            skipped.extend(batch.skipped);
        });
        if let Some((_, error)) = skipped.into_iter().next() {
            return Err(error.into());
        }
        let mut number: BTreeMap<usize, usize> = BTreeMap::new();
        for example in examples {
            let next = number.len();
            number.entry(example.label).or_insert(next);
        }
        let mut labels: Vec<(usize, usize)> = number.iter().map(|(&l, &n)| (n, l)).collect();
        labels.sort_unstable();
        let prompts = labels
            .iter()
            .map(|&(_, label)| {
                let name = self.dataset.class_names[label].replace('_', " ");
                let limit = text.context_length;
                self.tokenizer.tokenize(&name, limit, Overlong::Refuse)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let texts = normalise(clip.text.encode_frozen(&prompts)?);
        let width = config.embedding_width;
        let images = TensorData::new(features, [requests.len(), width]);
        let images = normalise(Tensor::from_data(images, &self.context.device));
        let similarities: Vec<f32> = images
            .matmul(texts.transpose())
            .into_data()
            .try_to_vec()
            .context("similarities are 32-bit floats")?;
        let rows: Vec<Vec<f32>> = similarities
            .chunks_exact(labels.len())
            .map(<[f32]>::to_vec)
            .collect();
        let names: Vec<usize> = examples
            .iter()
            .map(|example| number[&example.label])
            .collect();
        Ok(Some(retrieval(&rows, &names)))
    }
}

/// Saves after every epoch, measures now and then.
struct Watch<'a> {
    folder: &'a RunFolder,
    metrics: Vec<PretrainMetrics>,
    evaluator: Evaluator<'a>,
    bar: ProgressBar,
}

impl Observer for Watch<'_> {
    fn step(&mut self, _progress: Progress, loss: f32) {
        self.bar.inc(1);
        self.bar.set_message(format!("loss {loss:.3}"));
    }

    fn epoch(
        &mut self,
        metrics: &EpochMetrics,
        state: &TrainingState,
    ) -> Result<ControlFlow<()>, TrainError> {
        self.after_epoch(metrics, state)
            .map_err(|error| TrainError::Observer(error.into()))?;
        Ok(match self.evaluator.context.interrupt.is_wanted() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    }
}

impl Watch<'_> {
    fn after_epoch(&mut self, metrics: &EpochMetrics, state: &TrainingState) -> Result<()> {
        let settings = &self.evaluator.settings;
        let due = state.epochs_done.is_multiple_of(settings.evaluate_every);
        let val = match due || state.epochs_done == settings.fit.epochs {
            true => self.evaluator.retrieval(&state.parameters, Split::Val)?,
            false => None,
        };
        let line = PretrainMetrics {
            epoch: metrics.clone(),
            val,
        };
        let text = serde_json::to_string(&line)?;
        self.evaluator.context.screen.remark(text);
        // A run killed between state and metrics repeats the epoch: its line is replaced.
        self.metrics.retain(|old| old.epoch.epoch < metrics.epoch);
        self.metrics.push(line);
        checkpoint::write(
            &self.folder.path().join(MODEL),
            &settings.config,
            &settings.normalization,
            Precision::Half,
            &BTreeMap::new(),
            |name| Ok(state.parameters.data(name).unwrap_or_default()),
        )?;
        self.folder.write_metrics(&self.metrics)?;
        self.folder.save_state(state)?;
        Ok(())
    }
}
