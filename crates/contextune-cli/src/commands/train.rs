//! `contextune train METHOD`: a run from data to result.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use burn::tensor::Tensor;
use contextune::data::{Dataset, Split};
use contextune::evaluate::Accuracy;
use contextune::model::Model;
use contextune::objective::similarity;
use contextune::prompt::Classification;
use contextune::prompt::class_features::{TEMPLATES, layout_settings};
use contextune::prompt::coop::{self, CONTEXT, CoOp, ContextLayout, Initialisation, Position};
use contextune::prompt::format::PromptFile;
use contextune::prompt::zeroshot;
use contextune::run::{RunFolder, RunResult, peak_memory_bytes};
use contextune::text::TemplateSet;
use contextune::train::{
    EpochMetrics, FitSettings, Observer, Optimizer, Parameters, Progress, Schedule, TrainError,
    TrainingState, fit,
};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

use crate::examples::{self, Features, SubsetName};
use crate::interrupt::{Interrupt, Stopped};
use crate::options::{ActivationName, Context, ModelArguments, PictureArguments, WrongUsage};

/// Context vectors of CoOp if nothing else is said.
const CONTEXT_VECTORS: usize = 16;

/// Learn a prompt, or measure zero-shot as a run like any other.
///
/// Example: contextune train coop --data photos --shots 16 --out runs/photos
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    method: Method,
}

#[derive(Debug, clap::Subcommand)]
enum Method {
    /// Words as the prompt; nothing is learned.
    ///
    /// Example: contextune train zeroshot --data photos --templates openai-7
    Zeroshot(ZeroshotArguments),
    /// Context vectors in place of the words around a class name (CoOp).
    ///
    /// Example: contextune train coop --data photos --shots 16 --out runs/photos
    Coop(CoopArguments),
}

#[derive(Debug, clap::Args)]
struct ZeroshotArguments {
    #[command(flatten)]
    common: CommonArguments,
    /// A template such as "a photo of a {}.", a file with one a line, or a named set (openai-7, openai-80, …);
    /// several are averaged as features.
    #[arg(long, default_value = "a photo of a {}.")]
    templates: String,
}

#[derive(Debug, clap::Args)]
struct CoopArguments {
    #[command(flatten)]
    common: CommonArguments,
    /// Context vectors, M; 16 unless words or a file say otherwise.
    #[arg(long, value_name = "M")]
    context_length: Option<usize>,
    /// Where the class name stands among the context vectors: end, middle or front.
    #[arg(long, default_value_t)]
    position: Position,
    /// A context for each class instead of one for all.
    #[arg(long, conflicts_with = "init_words")]
    class_specific: bool,
    /// Begin from the embeddings of these words, one vector for each of their tokens.
    #[arg(long, value_name = "WORDS", conflicts_with = "init")]
    init_words: Option<String>,
    /// Begin from the tensor ctx in this safetensors file, such as the prompt of an earlier run.
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
    /// Passes over the training pictures; as published 50 for 1 shot, 100 for up to 4, else 200.
    #[arg(long)]
    epochs: Option<usize>,
    /// Pictures in a step, or "full".
    #[arg(long, default_value = "32", value_parser = batch_size)]
    batch_size: BatchSize,
    /// Highest learning rate.
    #[arg(long, default_value_t = 0.002)]
    lr: f32,
    /// Momentum of SGD.
    #[arg(long, default_value_t = 0.9)]
    momentum: f32,
    /// Weight decay of SGD.
    #[arg(long, default_value_t = 5e-4)]
    weight_decay: f32,
}

/// A number of pictures, or all of them.
#[derive(Clone, Copy, Debug)]
struct BatchSize(usize);

fn batch_size(text: &str) -> Result<BatchSize, String> {
    match text {
        "full" => Ok(BatchSize(usize::MAX)),
        _ => match text.parse() {
            Ok(size) if size > 0 => Ok(BatchSize(size)),
            _ => Err("a batch size is a positive number or \"full\"".into()),
        },
    }
}

#[derive(Clone, Debug, clap::Args)]
struct CommonArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// A folder of class folders, a CoOp data set, or a features file.
    #[arg(long)]
    data: PathBuf,
    /// Training pictures of each class, drawn as the official code draws them; without it all.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    shots: Option<u32>,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Which classes, for the base-to-new protocol.
    #[arg(long, value_enum, default_value_t)]
    subset: SubsetName,
    /// Folder for the run; without it runs/METHOD-DATA.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Replace the run folder if it exists.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    pictures: PictureArguments,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// All settings of a run, resolved; `run.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// The method, as on the command line.
    pub method: String,
    /// The model; absent: the embedded one.
    pub model: Option<String>,
    /// The activation that the user decided on.
    pub activation: Option<ActivationName>,
    /// The data set.
    pub data: PathBuf,
    /// Training pictures of each class; absent: all.
    pub shots: Option<usize>,
    /// Seed of everything random.
    pub seed: u64,
    /// Which classes.
    pub subset: SubsetName,
    /// Whether EXIF orientation is honoured.
    pub exif: bool,
    /// Whether an unreadable picture stops the run.
    pub strict: bool,
    /// Zero-shot: the templates, one a line.
    pub templates: Option<String>,
    /// CoOp: what is learned, and how.
    pub coop: Option<CoopSettings>,
}

/// The settings that only CoOp has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CoopSettings {
    /// What is learned, and where it stands.
    layout: ContextLayout,
    /// Words whose embeddings the context begins from.
    init_words: Option<String>,
    /// File whose ctx the context begins from.
    init: Option<PathBuf>,
    /// Pictures in a step, at most.
    batch_size: usize,
    /// Views of each picture: one, prepared as for the test.
    views: usize,
    fit: FitSettings,
}

impl Settings {
    /// Zero-shot with `templates`, one a line, on the embedded model.
    pub fn zeroshot(data: PathBuf, templates: String) -> Self {
        Self {
            method: "zeroshot".into(),
            model: None,
            activation: None,
            data,
            shots: None,
            seed: 1,
            subset: SubsetName::All,
            exif: false,
            strict: false,
            templates: Some(templates),
            coop: None,
        }
    }

    /// CoOp as published, on the embedded model; one context for all classes or one for each.
    pub fn coop(data: PathBuf, shots: usize, class_specific: bool) -> Self {
        Self {
            method: "coop".into(),
            shots: Some(shots),
            templates: None,
            coop: Some(CoopSettings {
                layout: ContextLayout {
                    length: CONTEXT_VECTORS,
                    class_specific,
                    position: Position::End,
                },
                init_words: None,
                init: None,
                batch_size: 32,
                views: 1,
                fit: FitSettings {
                    epochs: published_epochs(Some(shots)),
                    learning_rate: 0.002,
                    optimizer: Optimizer::Sgd {
                        momentum: 0.9,
                        weight_decay: 5e-4,
                    },
                    schedule: Schedule::CoOp { warmup: 1e-5 },
                },
            }),
            ..Self::zeroshot(data, String::new())
        }
    }

    /// The model as its arguments.
    pub fn model_arguments(&self) -> ModelArguments {
        ModelArguments {
            model: self.model.clone(),
            activation: self.activation,
        }
    }

    /// How pictures are read.
    pub fn picture_arguments(&self) -> PictureArguments {
        PictureArguments {
            exif: self.exif,
            strict: self.strict,
        }
    }
}

impl CommonArguments {
    fn settings(&self, method: &str) -> Settings {
        Settings {
            method: method.into(),
            model: self.model.model.clone(),
            activation: self.model.activation,
            data: self.data.clone(),
            shots: self.shots.map(|shots| shots as usize),
            seed: self.seed,
            subset: self.subset,
            exif: self.pictures.exif,
            strict: self.pictures.strict,
            templates: None,
            coop: None,
        }
    }

    fn folder(&self, settings: &Settings) -> Result<RunFolder> {
        let out = self.out.clone().unwrap_or_else(|| {
            let data = self.data.file_stem().unwrap_or_default().to_string_lossy();
            PathBuf::from("runs").join(format!("{}-{data}", settings.method))
        });
        Ok(RunFolder::create(&out, settings, self.force)?)
    }
}

/// Runs the method.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    let common = match &arguments.method {
        Method::Zeroshot(arguments) => arguments.common.clone(),
        Method::Coop(arguments) => arguments.common.clone(),
    };
    let model = common.model.open(context)?;
    let settings = match &arguments.method {
        Method::Zeroshot(arguments) => zeroshot_settings(arguments)?,
        Method::Coop(arguments) => coop_settings(arguments, &model)?,
    };
    let dataset = examples::open(&settings.data, settings.seed, context)?;
    examples::check_width(&dataset, &model)?;
    let folder = common.folder(&settings)?;
    let result = train(&settings, &dataset, &model, &folder, context)?;
    print(&result, &folder, common.json)
}

/// Prints what came of a run.
pub fn print(result: &RunResult, folder: &RunFolder, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(result)?);
    } else {
        println!(
            "{}: {:.1} % on the test split, {} learned numbers, {:.1} s of training; the run is in {}",
            result.method,
            100.0 * result.accuracy,
            result.parameters,
            result.train_seconds,
            folder.path().display()
        );
    }
    Ok(())
}

fn zeroshot_settings(arguments: &ZeroshotArguments) -> Result<Settings> {
    let templates = TemplateSet::from_argument(&arguments.templates)?;
    let lines: Vec<String> = templates
        .templates()
        .iter()
        .map(ToString::to_string)
        .collect();
    Ok(Settings {
        templates: Some(lines.join("\n")),
        ..arguments.common.settings("zeroshot")
    })
}

fn coop_settings(arguments: &CoopArguments, model: &Model) -> Result<Settings> {
    let settings = arguments.common.settings("coop");
    let length_of_init = match (&arguments.init_words, &arguments.init) {
        (Some(words), _) => Some(model.tokenizer()?.encode(words)?.len()),
        (None, Some(path)) => Some(
            // [M, d] or [K, M, d]
            PromptFile::read_tensor(path, CONTEXT)?
                .1
                .iter()
                .rev()
                .nth(1)
                .copied()
                .unwrap_or(0),
        ),
        (None, None) => None,
    };
    let context_length = match (arguments.context_length, length_of_init) {
        (Some(asked), Some(found)) if asked != found => {
            return Err(WrongUsage(format!(
                "--context-length is {asked}, but the initialisation has {found} vectors: leave one of them out"
            ))
            .into());
        }
        (Some(length), _) | (None, Some(length)) => length,
        (None, None) => CONTEXT_VECTORS,
    };
    if context_length == 0 {
        return Err(WrongUsage("a context has at least one vector".into()).into());
    }
    let epochs = arguments
        .epochs
        .unwrap_or_else(|| published_epochs(settings.shots));
    let coop = CoopSettings {
        layout: ContextLayout {
            length: context_length,
            class_specific: arguments.class_specific,
            position: arguments.position,
        },
        init_words: arguments.init_words.clone(),
        init: arguments.init.clone(),
        batch_size: arguments.batch_size.0,
        views: 1,
        fit: FitSettings {
            epochs,
            learning_rate: arguments.lr,
            optimizer: Optimizer::Sgd {
                momentum: arguments.momentum,
                weight_decay: arguments.weight_decay,
            },
            schedule: Schedule::CoOp { warmup: 1e-5 },
        },
    };
    Ok(Settings {
        coop: Some(coop),
        ..settings
    })
}

/// Epochs by training pictures of each class (Zhou et al. 2022, §4.1).
fn published_epochs(shots: Option<usize>) -> usize {
    match shots {
        Some(1) => 50,
        Some(2..=4) => 100,
        _ => 200,
    }
}

/// Trains from where the folder is, or from the beginning, and writes what comes of it.
pub fn train(
    settings: &Settings,
    dataset: &Dataset,
    model: &Model,
    folder: &RunFolder,
    context: &Context,
) -> Result<RunResult> {
    let mut sampled = dataset.clone();
    if let Some(shots) = settings.shots {
        sampled = sampled.few_shot(shots, settings.seed)?;
        for warning in sampled.warnings.iter().skip(dataset.warnings.len()) {
            context.screen.remark(warning);
        }
    }
    let sampled = sampled.subset(settings.subset.into());
    let fingerprint = model.fingerprint()?;
    let (prompt, train_seconds) = match (&settings.coop, &settings.templates) {
        (Some(coop), _) => learn_context(settings, coop, &sampled, model, folder, context)?,
        (None, Some(templates)) => (written_prompt(templates, &sampled, model)?, 0.0),
        (None, None) => bail!(
            "{} says neither templates nor a method",
            folder.path().display()
        ),
    };
    let prompt = PromptFile {
        fingerprint,
        ..prompt
    };
    prompt.write(&folder.prompt_file())?;

    let pictures = settings.picture_arguments();
    let test = examples::features(
        &sampled,
        sampled.split(Split::Test),
        model,
        &pictures,
        context,
    )
    .context("there is nothing to measure the accuracy on")?;
    let (accuracy, _) = measure(&prompt, &test, model)?;
    let result = RunResult {
        method: settings.method.clone(),
        accuracy: accuracy.share(),
        per_class: per_class(&accuracy, &sampled.class_names),
        shots: settings.shots,
        seed: settings.seed,
        subset: contextune::data::Subset::from(settings.subset).to_string(),
        parameters: prompt.parameters.elements(),
        train_seconds,
        peak_memory_bytes: peak_memory_bytes(),
    };
    folder.finish(&result)?;
    Ok(result)
}

fn written_prompt(templates: &str, dataset: &Dataset, model: &Model) -> Result<PromptFile> {
    let set = TemplateSet::new(templates, "run.toml")?;
    let text = model.text_tower()?;
    let classifier = zeroshot::classifier(&text, &model.tokenizer()?, &dataset.class_names, &set)?;
    Ok(PromptFile {
        method: "zeroshot".into(),
        fingerprint: String::new(),
        class_names: dataset.class_names.clone(),
        settings: HashMap::from([(TEMPLATES.into(), templates.into())]),
        parameters: Parameters::default(),
        text_features: Some(values(classifier)?),
    })
}

fn learn_context(
    settings: &Settings,
    coop: &CoopSettings,
    dataset: &Dataset,
    model: &Model,
    folder: &RunFolder,
    context: &Context,
) -> Result<(PromptFile, f64)> {
    let text = model.text_tower()?;
    let tokenizer = model.tokenizer()?;
    let limit = text.config().context_length;
    let names = &dataset.class_names;
    let placeholders = coop::placeholders(&tokenizer, names, coop.layout.length, limit)?;
    let prompt = CoOp::new(&text, model.logit_scale()?, &placeholders, coop.layout)?;
    let shape = coop.layout.shape(names.len(), text.config().width);
    let vectors = shape.iter().rev().skip(1).product();
    let initial = match (&coop.init_words, &coop.init) {
        (Some(words), _) => {
            values(Initialisation::Tokens(tokenizer.encode(words)?).context(&text, vectors))?
        }
        (None, Some(path)) => {
            let (values, found) = PromptFile::read_tensor(path, CONTEXT)?;
            if found != shape {
                bail!(
                    "ctx in {} has shape {found:?}; this model, these classes and this layout need {shape:?}",
                    path.display()
                );
            }
            values
        }
        (None, None) => {
            let seed = settings.seed;
            values(Initialisation::Random { seed }.context(&text, vectors))?
        }
    };
    let mut state = match folder.state(&context.device)? {
        Some(state) => state,
        None => {
            let mut parameters = Parameters::default();
            parameters.insert_data(CONTEXT, &shape, initial, &context.device);
            TrainingState::new(parameters)
        }
    };
    let pictures = settings.picture_arguments();
    let train = examples::features(dataset, &dataset.train, model, &pictures, context)
        .context("there is nothing to learn from")?;
    let task = Classification::new(
        prompt,
        train.rows,
        train.labels,
        coop.batch_size,
        settings.seed,
    );
    let mut watch = Watch {
        folder,
        interrupt: &context.interrupt,
        metrics: folder.metrics()?,
        bar: context.screen.bar("train", coop.fit.epochs),
        saved: std::time::Instant::now(),
    };
    watch.bar.set_position(state.epochs_done as u64);
    let learning = context.interrupt.learning();
    fit(&task, &coop.fit, &mut state, &mut watch)?;
    drop(learning);
    watch.bar.finish_and_clear();
    folder.write_metrics(&watch.metrics)?;
    Stopped::check(folder.path(), state.epochs_done, coop.fit.epochs)?;
    let train_seconds = watch.metrics.iter().map(|epoch| epoch.seconds).sum();
    let features = task.prompt().text_features(&state.parameters)?;
    let file = PromptFile {
        method: "coop".into(),
        fingerprint: String::new(),
        class_names: dataset.class_names.clone(),
        settings: layout_settings(coop.layout),
        parameters: state.parameters,
        text_features: Some(values(features)?),
    };
    Ok((file, train_seconds))
}

/// Accuracy and logits `[N, K]` of a prompt whose class features are known.
pub fn measure(
    prompt: &PromptFile,
    features: &Features,
    model: &Model,
) -> Result<(Accuracy, Vec<f32>)> {
    let texts = prompt
        .stored_features(model.device())
        .with_context(|| format!("the prompt of {} has no text features", prompt.method))?;
    let logits = similarity::logits(features.rows.clone(), texts, model.logit_scale()?);
    let logits = values(logits)?;
    let accuracy = Accuracy::of(&logits, &features.labels, prompt.class_names.len());
    Ok((accuracy, logits))
}

/// Accuracy of each class that has examples, by name.
pub fn per_class(accuracy: &Accuracy, class_names: &[String]) -> BTreeMap<String, f32> {
    class_names
        .iter()
        .zip(&accuracy.per_class)
        .filter(|(_, (_, examples))| *examples > 0)
        .map(|(name, (correct, examples))| (name.clone(), *correct as f32 / *examples as f32))
        .collect()
}

/// The elements of a tensor of 32-bit floats.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor
        .inner()
        .into_data()
        .try_to_vec()
        .context("the model computes in 32-bit floats")
}

/// Shows progress and keeps the run resumable.
struct Watch<'a> {
    folder: &'a RunFolder,
    interrupt: &'a Interrupt,
    metrics: Vec<EpochMetrics>,
    bar: ProgressBar,
    saved: std::time::Instant,
}

impl Observer for Watch<'_> {
    fn step(&mut self, _progress: Progress, _loss: f32) {}

    fn epoch(
        &mut self,
        metrics: &EpochMetrics,
        state: &TrainingState,
    ) -> Result<ControlFlow<()>, TrainError> {
        /// A short epoch need not be saved on its own: repeating it costs less.
        const SAVE_EVERY_SECONDS: u64 = 2;
        self.bar.inc(1);
        self.bar.set_message(format!(
            "loss {:.3}, accuracy {:.2}",
            metrics.loss, metrics.accuracy
        ));
        // A run killed between state and metrics repeats the epoch: its line is replaced.
        self.metrics.retain(|old| old.epoch < metrics.epoch);
        self.metrics.push(metrics.clone());
        let stop = self.interrupt.is_wanted();
        if stop || self.saved.elapsed().as_secs() >= SAVE_EVERY_SECONDS {
            let save = || -> Result<()> {
                self.folder.write_metrics(&self.metrics)?;
                Ok(self.folder.save_state(state)?)
            };
            save().map_err(|error| TrainError::Observer(error.into()))?;
            self.saved = std::time::Instant::now();
        }
        Ok(match stop {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    }
}
