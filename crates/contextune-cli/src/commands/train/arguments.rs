//! The arguments of `contextune train`, and the settings they mean.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use contextune::data::{Dataset, Split, Subset};
use contextune::model::Model;
use contextune::objective::label_map::LabelMapping;
use contextune::prompt::clip_adapter::ClipAdapterSettings;
use contextune::prompt::cocoop::CoCoOpSettings;
use contextune::prompt::coop::{CONTEXT, ContextLayout, InitialContext, Position};
use contextune::prompt::finetune::{FinetuneSettings, Tuned};
use contextune::prompt::format::PromptFile;
use contextune::prompt::guided::GuidedSettings;
use contextune::prompt::image_encoder::ImageEncoderSettings;
use contextune::prompt::kgcoop::KgCoOp;
use contextune::prompt::linear_probe::LinearProbeSettings;
use contextune::prompt::pixel::{PixelSettings, Place};
use contextune::prompt::prograd::ProGrad;
use contextune::prompt::reprogram::ReprogramSettings;
use contextune::prompt::source::Target;
use contextune::prompt::taskres::TaskResSettings;
use contextune::prompt::text_tuning::{TextBiasSettings, TextTransformSettings};
use contextune::prompt::tip_adapter::{TipAdapterFSettings, TipAdapterSettings};
use contextune::prompt::vpt::{Depth, InitialPrompts, Location, Pooling, VptSettings};
use contextune::prompt::zeroshot::ZeroShotSettings;
use contextune::prompt::{Method, TrainingViews};
use contextune::run::{LearnFrom, RecipeName, RunFolder, Settings};
use contextune::text::{TEMPLATE, TemplateSet};
use contextune::train::Optimizer;
use serde::de::DeserializeOwned;

use crate::options::{ModelArguments, PictureArguments, WrongUsage};

/// Context vectors of CoOp if nothing else is said (Zhou et al. 2022).
const CONTEXT_VECTORS: usize = 16;
/// Words that CoCoOp and KgCoOp begin from if nothing else is said.
const PUBLISHED_WORDS: &str = "a photo of a";
/// Weight decay of SGD where the recipe has another optimiser (Zhou et al. 2022).
const PUBLISHED_WEIGHT_DECAY: f32 = 5e-4;

/// Learn a prompt, or measure zero-shot as a run like any other.
///
/// Example: contextune train coop --data photos --shots 16 --out runs/photos
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    method: MethodArguments,
}

#[derive(Debug, Subcommand)]
enum MethodArguments {
    /// Words as the prompt; nothing is learned.
    ///
    /// Example: contextune train zeroshot --data photos --templates openai-7
    Zeroshot(WordsArguments),
    /// Logistic regression on image features, its strength chosen on the validation pictures.
    ///
    /// Example: contextune train linear-probe --data photos --shots 16
    LinearProbe(LinearProbeArguments),
    /// Context vectors in place of the words around a class name (CoOp).
    ///
    /// Example: contextune train coop --data photos --shots 16 --out runs/photos
    Coop(CoopArguments),
    /// Context vectors that depend on the picture (CoCoOp): better on classes that were not learned.
    ///
    /// Example: contextune train cocoop --data photos --shots 16 --subset base
    Cocoop(CocoopArguments),
    /// CoOp that stays near hand-written words (KgCoOp).
    ///
    /// Example: contextune train kgcoop --data photos --shots 16 --subset base
    Kgcoop(GuidedArguments),
    /// CoOp whose steps never go against hand-written words (ProGrad).
    ///
    /// Example: contextune train prograd --data photos --shots 4
    Prograd(GuidedArguments),
    /// A small network on the image features (CLIP-Adapter).
    ///
    /// Example: contextune train clip-adapter --data photos --shots 16
    ClipAdapter(ClipAdapterArguments),
    /// The training pictures themselves as a classifier; nothing is trained (Tip-Adapter).
    ///
    /// Example: contextune train tip-adapter --data photos --shots 16
    TipAdapter(WordsArguments),
    /// Tip-Adapter with learned keys (Tip-Adapter-F).
    ///
    /// Example: contextune train tip-adapter-f --data photos --shots 16
    TipAdapterF(TunedWordsArguments),
    /// A residual on the text feature of each class (TaskRes).
    ///
    /// Example: contextune train taskres --data photos --shots 16
    Taskres(TaskresArguments),
    /// A linear layer on the text features (baseline of CoOp's paper).
    ///
    /// Example: contextune train text-transform --data photos --shots 16
    TextTransform(TunedWordsArguments),
    /// A bias on the text features (baseline of CoOp's paper).
    ///
    /// Example: contextune train text-bias --data photos --shots 16
    TextBias(TunedWordsArguments),
    /// The whole image encoder (baseline of CoOp's paper); learns from pictures, not from features.
    ///
    /// Example: contextune train image-encoder --data photos --shots 16
    ImageEncoder(TunedWordsArguments),
    /// Tokens or pixels inside a frozen vision transformer, and a linear classifier behind it (VPT); learns from pictures.
    ///
    /// Example: contextune train vpt --data photos --tokens 10 --depth deep
    Vpt(VptArguments),
    /// Pixels on the picture in front of a frozen CLIP, which compares it with words; learns from pictures.
    ///
    /// Example: contextune train pixel --data photos --size 30
    Pixel(PixelArguments),
    /// A program of pixels around a small picture that makes a frozen classifier do another task (adversarial
    /// reprogramming); learns from pictures.
    ///
    /// Example: contextune train reprogram --data digits --model efficientnet-lite0.pth --side 28
    Reprogram(ReprogramArguments),
    /// A linear classifier behind the image tower, and parts of the tower trained with it: what visual prompts are compared
    /// with.
    ///
    /// Example: contextune train finetune --data photos --tune partial-1
    Finetune(FinetuneArguments),
}

#[derive(Debug, Args)]
struct WordsArguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    templates: TemplateArguments,
}

#[derive(Debug, Args)]
struct TunedWordsArguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    templates: TemplateArguments,
    #[command(flatten)]
    training: TrainingArguments,
}

#[derive(Debug, Args)]
struct LinearProbeArguments {
    #[command(flatten)]
    common: CommonArguments,
    /// Inverse strength of the penalty, scikit-learn's C; without it searched as CoOp's authors do.
    #[arg(long, value_name = "C", value_parser = positive)]
    c: Option<f64>,
}

#[derive(Debug, Args)]
struct CoopArguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    layout: LayoutArguments,
    #[command(flatten)]
    context: ContextArguments,
    #[command(flatten)]
    training: TrainingArguments,
}

#[derive(Debug, Args)]
struct CocoopArguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    context: ContextArguments,
    #[command(flatten)]
    training: TrainingArguments,
}

#[derive(Debug, Args)]
struct GuidedArguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    layout: LayoutArguments,
    #[command(flatten)]
    context: ContextArguments,
    #[command(flatten)]
    templates: TemplateArguments,
    /// Factor of the guidance, λ; as published 8 for kgcoop, 1 for prograd.
    #[arg(long, value_name = "FACTOR", value_parser = positive)]
    weight: Option<f64>,
    #[command(flatten)]
    training: TrainingArguments,
}

#[derive(Debug, Args)]
struct ClipAdapterArguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    templates: TemplateArguments,
    /// Share of the adapted feature, 0 to 1.
    #[arg(long, default_value_t = 0.2, value_parser = share)]
    ratio: f32,
    #[command(flatten)]
    training: TrainingArguments,
}

#[derive(Debug, Args)]
struct TaskresArguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    templates: TemplateArguments,
    /// Factor of the residuals, α.
    #[arg(long, value_name = "FACTOR", default_value_t = 0.5, value_parser = positive)]
    residual_scale: f64,
    #[command(flatten)]
    training: TrainingArguments,
}

#[derive(Debug, Args)]
struct VptArguments {
    #[command(flatten)]
    common: CommonArguments,
    /// Prompt tokens; the border in pixels for pad, channels for below. Without it 10, or one for each class with --initial.
    #[arg(long)]
    tokens: Option<usize>,
    /// Where prompts begin: random, or one for each class from the class tokens of its training pictures:
    /// final-class-token (behind the last layer), class-tokens-without-last (entering each layer) or
    /// class-tokens-without-first (leaving it).
    #[arg(long, default_value = "random", value_parser = named::<InitialPrompts>)]
    initial: InitialPrompts,
    /// The layers that prompts enter: shallow (the first), deep (each), shared (each, the same prompts), first-N,
    /// first-N-only (prompts leave again), last-N or last-N-as-published (the official code loses the first patches).
    /// Without it deep, and shallow for prompts made of pixels.
    #[arg(long)]
    depth: Option<Depth>,
    /// What a prompt is: prepend (tokens), add (a summand for each token), add-1 (one for all), prepend-pixel,
    /// prepend-pixel-gaussian, prepend-pixel-normalised, pad (a border of pixels) or below (channels).
    #[arg(long, default_value = "prepend", value_parser = named::<Location>)]
    location: Location,
    /// What is classified: class-token, image, prompt or image-and-prompt.
    #[arg(long, default_value = "class-token", value_parser = named::<Pooling>)]
    pooling: Pooling,
    /// Learn prompts of this width and a linear layer from them to the tower's width.
    #[arg(long, value_name = "WIDTH")]
    project: Option<usize>,
    /// Share of the prompts' elements that a step leaves out; as published .1 for deep prompts, here 0 unless given.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    dropout: f32,
    #[command(flatten)]
    training: TrainingArguments,
}

#[derive(Debug, Args)]
struct PixelArguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    target: TargetArguments,
    /// Divide the gradient of all pixels by its norm before the optimiser sees it.
    #[arg(long)]
    unit_gradient: bool,
    /// Where the pixels are: padding (a border on the picture), frame (a border around the picture, made smaller),
    /// fixed-patch (a square in the upper left corner) or random-patch (at another place for every batch).
    #[arg(long, default_value = "padding", value_parser = named::<Place>)]
    place: Place,
    /// Width of the border or side of the patch, in pixels; without it as published for pictures of 224 pixels, 30, in
    /// proportion.
    #[arg(long)]
    size: Option<usize>,
    #[command(flatten)]
    training: TrainingArguments,
}

#[derive(Debug, Args)]
struct ReprogramArguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(flatten)]
    target: TargetArguments,
    /// Side of the task's picture in pixels; without it half of the model's input.
    #[arg(long)]
    side: Option<usize>,
    /// Factor of the squared norm of the program, λ; as published 0.05, here 0 unless given.
    #[arg(long, value_name = "FACTOR", default_value_t = 0.0, value_parser = not_negative)]
    penalty: f64,
    #[command(flatten)]
    training: TrainingArguments,
}

#[derive(Debug, Args)]
struct FinetuneArguments {
    #[command(flatten)]
    common: CommonArguments,
    /// What learns beside the classifier: linear (nothing), mlp-N (a classifier of N layers), partial-N (the last N blocks),
    /// bias, adapter, adapter-as-published (which learns one bias for each block), side (an AlexNet beside the tower) or full.
    #[arg(long, default_value_t)]
    tune: Tuned,
    /// Begin the AlexNet of --tune side from its weights as torchvision publishes them; without it at random.
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
    #[command(flatten)]
    training: TrainingArguments,
}

/// What the outputs of a frozen model mean.
#[derive(Debug, Args)]
struct TargetArguments {
    /// words (a class is what its words say; a CLIP) or labels (a class is one of the labels that the model was pretrained
    /// with). Without it words where the model has them.
    #[arg(long, value_enum)]
    target: Option<TargetArgument>,
    #[command(flatten)]
    templates: TemplateArguments,
    /// Which label a class gets: first, random, frequent (the label that the model gives most often to its pictures) or
    /// iterative (found anew before every epoch). Without it iterative.
    #[arg(long, value_parser = named::<LabelMapping>, conflicts_with_all = ["templates", "label_map"])]
    mapping: Option<LabelMapping>,
    /// The number of the label of each class, separated by commas, in the order of the classes.
    #[arg(
        long,
        value_name = "LABELS",
        value_delimiter = ',',
        conflicts_with = "templates"
    )]
    label_map: Option<Vec<usize>>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TargetArgument {
    Words,
    Labels,
}

#[derive(Debug, Args)]
pub(super) struct CommonArguments {
    #[command(flatten)]
    pub(super) model: ModelArguments,
    /// A folder of class folders, a published data set, or a features file.
    #[arg(long)]
    pub(super) data: PathBuf,
    /// Training pictures of each class, drawn as the official code draws them; without it all.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    shots: Option<u32>,
    /// Draw so many pictures of all classes together, the same for every seed: four fifths to learn from, one to choose
    /// settings by (VTAB-1k: 1000).
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..), conflicts_with = "shots")]
    examples: Option<u32>,
    /// Which pictures to learn from: train, or those to choose settings by as well.
    #[arg(long, default_value = "train", value_parser = named::<LearnFrom>, value_name = "train|train-and-val")]
    learn_from: LearnFrom,
    /// Which pictures to measure the result on: test, or val to choose settings by it.
    #[arg(long, default_value = "test", value_parser = measured_split, value_name = "test|val")]
    measure_on: Split,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seed of the split of a data set that has none; without it --seed.
    #[arg(long, value_name = "SEED")]
    split_seed: Option<u64>,
    /// Which classes, for the base-to-new protocol: all, base or new.
    #[arg(long, default_value_t, value_parser = crate::examples::subset)]
    subset: Subset,
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
    pub(super) json: bool,
}

#[derive(Debug, Args)]
struct TemplateArguments {
    /// A template such as "a photo of a {}.", a file with one a line, or a named set (openai-7, openai-80, …); several are
    /// averaged as features. Without it the published template of the data set, or "a photo of a {}.".
    #[arg(long)]
    templates: Option<String>,
}

#[derive(Debug, Args)]
struct LayoutArguments {
    /// Where the class name stands among the context vectors: end, middle or front.
    #[arg(long, default_value_t)]
    position: Position,
    /// A context for each class instead of one for all.
    #[arg(long, conflicts_with = "init_words")]
    class_specific: bool,
}

#[derive(Debug, Args)]
struct ContextArguments {
    /// Context vectors, M; without it as published (16 for coop and prograd, 4 for cocoop and kgcoop) or as words or a file
    /// say.
    #[arg(long, value_name = "M")]
    context_length: Option<usize>,
    /// Begin from the embeddings of these words, one vector for each of their tokens.
    #[arg(long, value_name = "WORDS", conflicts_with = "init")]
    init_words: Option<String>,
    /// One vector for each word, as the official code counts; surplus tokens of a word stay behind the context.
    #[arg(long, requires = "init_words")]
    init_as_published: bool,
    /// Begin from the tensors of this safetensors file, such as the prompt of an earlier run.
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct TrainingArguments {
    /// fast, or published: what the method's authors did, with a fresh random view of each picture in every epoch.
    #[arg(long, value_enum, default_value_t)]
    recipe: RecipeArgument,
    /// Passes over the training pictures.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    epochs: Option<u32>,
    /// Pictures in a step, or "full".
    #[arg(long, value_parser = batch_size)]
    batch_size: Option<BatchSize>,
    /// Highest learning rate.
    #[arg(long, value_parser = positive)]
    lr: Option<f64>,
    /// Train by SGD with this momentum, whatever the recipe trains by.
    #[arg(long, value_parser = share)]
    momentum: Option<f32>,
    /// Weight decay.
    #[arg(long, value_parser = not_negative)]
    weight_decay: Option<f64>,
    /// Draw each epoch's views from so many fixed random views of each picture; 0: the pictures as they are.
    #[arg(long, value_name = "V")]
    views: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum RecipeArgument {
    /// What the method's authors did.
    Published,
    /// About the same accuracy in a fraction of the time.
    #[default]
    Fast,
}

/// A number of pictures; `None` means all.
#[derive(Clone, Copy, Debug)]
struct BatchSize(Option<usize>);

fn batch_size(text: &str) -> Result<BatchSize, String> {
    match text {
        "full" => Ok(BatchSize(None)),
        _ => match text.parse() {
            Ok(size) if size > 0 => Ok(BatchSize(Some(size))),
            _ => Err("a batch size is a positive number or \"full\"".into()),
        },
    }
}

/// A split that a result may be measured on.
fn measured_split(name: &str) -> Result<Split, String> {
    match crate::examples::split(name) {
        Ok(Split::Train) | Err(_) => Err("a result is measured on test or val".into()),
        split => split,
    }
}

/// A value by the name that it has in files.
fn named<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("a positive number is needed".into()),
    }
}

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value >= 0.0 && value.is_finite() => Ok(value),
        _ => Err("a number from 0 on is needed".into()),
    }
}

fn share(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("a number from 0 to 1 is needed".into()),
    }
}

/// The settings of a whole command line, `train` first.
///
/// # Errors
/// What clap says of it, on one line.
pub(super) fn settings_of(words: &[String], model: &Model, dataset: &Dataset) -> Result<Settings> {
    /// `train` as a command of its own.
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }
    let line = <Line as clap::Parser>::try_parse_from(words).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        WrongUsage(first.trim_start_matches("error: ").to_owned())
    })?;
    line.arguments.settings(model, dataset)
}

impl Arguments {
    pub(super) fn common(&self) -> &CommonArguments {
        match &self.method {
            MethodArguments::Zeroshot(arguments) | MethodArguments::TipAdapter(arguments) => {
                &arguments.common
            }
            MethodArguments::LinearProbe(arguments) => &arguments.common,
            MethodArguments::Coop(arguments) => &arguments.common,
            MethodArguments::Cocoop(arguments) => &arguments.common,
            MethodArguments::Kgcoop(arguments) | MethodArguments::Prograd(arguments) => {
                &arguments.common
            }
            MethodArguments::ClipAdapter(arguments) => &arguments.common,
            MethodArguments::Taskres(arguments) => &arguments.common,
            MethodArguments::Vpt(arguments) => &arguments.common,
            MethodArguments::Pixel(arguments) => &arguments.common,
            MethodArguments::Reprogram(arguments) => &arguments.common,
            MethodArguments::Finetune(arguments) => &arguments.common,
            MethodArguments::TipAdapterF(arguments)
            | MethodArguments::TextTransform(arguments)
            | MethodArguments::TextBias(arguments)
            | MethodArguments::ImageEncoder(arguments) => &arguments.common,
        }
    }

    /// All settings, resolved for this model and data set.
    pub(super) fn settings(&self, model: &Model, dataset: &Dataset) -> Result<Settings> {
        let common = self.common();
        let random = InitialContext::Random;
        let (method, initial, training) = match &self.method {
            MethodArguments::Zeroshot(arguments) => {
                let templates = arguments.templates.lines(dataset)?;
                let method = Method::Zeroshot(ZeroShotSettings { templates });
                (method, random, None)
            }
            MethodArguments::TipAdapter(arguments) => {
                let templates = arguments.templates.lines(dataset)?;
                let method = Method::TipAdapter(TipAdapterSettings { templates });
                (method, random, None)
            }
            MethodArguments::LinearProbe(arguments) => {
                let settings = LinearProbeSettings { c: arguments.c };
                (Method::LinearProbe(settings), random, None)
            }
            MethodArguments::Coop(arguments) => {
                let (layout, initial) =
                    arguments
                        .context
                        .resolve(&arguments.layout, CONTEXT_VECTORS, None, model)?;
                (Method::Coop(layout), initial, Some(&arguments.training))
            }
            MethodArguments::Cocoop(arguments) => {
                let at_end = LayoutArguments {
                    position: Position::End,
                    class_specific: false,
                };
                let words = Some(PUBLISHED_WORDS);
                let (layout, initial) =
                    arguments
                        .context
                        .resolve(&at_end, CONTEXT_VECTORS, words, model)?;
                let settings = CoCoOpSettings {
                    context_length: layout.length,
                    published_words: layout.published_words,
                };
                (Method::Cocoop(settings), initial, Some(&arguments.training))
            }
            MethodArguments::Kgcoop(arguments) => {
                let words = match arguments.layout.class_specific {
                    true => None,
                    false => Some(PUBLISHED_WORDS),
                };
                let weight = arguments.weight_or(KgCoOp::PUBLISHED.weight);
                let (settings, initial) =
                    arguments.resolve(KgCoOp { weight }, words, model, dataset)?;
                (Method::Kgcoop(settings), initial, Some(&arguments.training))
            }
            MethodArguments::Prograd(arguments) => {
                let weight = arguments.weight_or(ProGrad::PUBLISHED.weight);
                let (settings, initial) =
                    arguments.resolve(ProGrad { weight }, None, model, dataset)?;
                let method = Method::Prograd(settings);
                (method, initial, Some(&arguments.training))
            }
            MethodArguments::ClipAdapter(arguments) => {
                let settings = ClipAdapterSettings {
                    templates: arguments.templates.lines(dataset)?,
                    ratio: arguments.ratio,
                };
                (
                    Method::ClipAdapter(settings),
                    random,
                    Some(&arguments.training),
                )
            }
            MethodArguments::Taskres(arguments) => {
                let settings = TaskResSettings {
                    templates: arguments.templates.lines(dataset)?,
                    residual_scale: arguments.residual_scale as f32,
                };
                (Method::Taskres(settings), random, Some(&arguments.training))
            }
            MethodArguments::TipAdapterF(arguments) => arguments.resolve(dataset, |templates| {
                Method::TipAdapterF(TipAdapterFSettings { templates })
            })?,
            MethodArguments::TextTransform(arguments) => arguments
                .resolve(dataset, |templates| {
                    Method::TextTransform(TextTransformSettings { templates })
                })?,
            MethodArguments::ImageEncoder(arguments) => arguments
                .resolve(dataset, |templates| {
                    Method::ImageEncoder(ImageEncoderSettings { templates })
                })?,
            MethodArguments::TextBias(arguments) => arguments.resolve(dataset, |templates| {
                Method::TextBias(TextBiasSettings { templates })
            })?,
            MethodArguments::Pixel(arguments) => {
                let image_size = model.config().image.image_size();
                let method = Method::Pixel(PixelSettings {
                    place: arguments.place,
                    size: arguments.size.unwrap_or((image_size * 30 / 224).max(1)),
                    unit_gradient: arguments.unit_gradient,
                    target: arguments.target.resolve(model, dataset)?,
                });
                (method, random, Some(&arguments.training))
            }
            MethodArguments::Finetune(arguments) => {
                let tuned = arguments.tune;
                let initial = match &arguments.init {
                    None => random,
                    Some(path) if tuned == Tuned::Side => InitialContext::File {
                        path: std::path::absolute(path)?,
                    },
                    Some(_) => {
                        let only = "--init goes with --tune side: all else begins from the model";
                        return Err(WrongUsage(only.into()).into());
                    }
                };
                let method = Method::Finetune(FinetuneSettings { tuned });
                (method, initial, Some(&arguments.training))
            }
            MethodArguments::Reprogram(arguments) => {
                let image_size = model.config().image.image_size();
                let method = Method::Reprogram(ReprogramSettings {
                    side: arguments.side.unwrap_or((image_size / 2).max(1)),
                    penalty: arguments.penalty as f32,
                    target: arguments.target.resolve(model, dataset)?,
                });
                (method, random, Some(&arguments.training))
            }
            MethodArguments::Vpt(arguments) => {
                let classes = dataset.subset(common.subset).class_names.len();
                let method = Method::Vpt(arguments.settings(classes)?);
                (method, random, Some(&arguments.training))
            }
        };
        let recipe = match training {
            Some(training) => training.recipe.into(),
            None => RecipeName::Published,
        };
        let shots = common.shots.map(|shots| shots as usize);
        let mut settings = Settings {
            model: common.model.model.as_deref().map(absolute_model),
            activation: common.model.activation.map(Into::into),
            examples: common.examples.map(|examples| examples as usize),
            learn_from: common.learn_from,
            measure_on: common.measure_on,
            seed: common.seed,
            split_seed: common.split_seed,
            subset: common.subset,
            exif: common.pictures.exif,
            strict: common.pictures.strict,
            initial,
            ..Settings::new(std::path::absolute(&common.data)?, method, shots, recipe)
        };
        if let Some(training) = training {
            training.change(&mut settings)?;
        }
        Ok(settings)
    }
}

/// A model's name as it is, a path from the root: a run is resumed from anywhere.
pub(in crate::commands) fn absolute_model(name: &str) -> String {
    match Path::new(name).exists() {
        true => std::path::absolute(name)
            .ok()
            .and_then(|path| path.to_str().map(str::to_owned))
            .unwrap_or_else(|| name.to_owned()),
        false => name.to_owned(),
    }
}

impl CommonArguments {
    /// The seed to open the data set with.
    pub(super) fn split_seed(&self) -> u64 {
        self.split_seed.unwrap_or(self.seed)
    }

    pub(super) fn folder(&self, settings: &Settings) -> Result<RunFolder> {
        let out = self.out.clone().unwrap_or_else(|| {
            let data = self.data.file_stem().unwrap_or_default().to_string_lossy();
            PathBuf::from("runs").join(format!("{}-{data}", settings.method.name()))
        });
        Ok(RunFolder::create(&out, settings, self.force)?)
    }
}

impl VptArguments {
    fn settings(&self, classes: usize) -> Result<VptSettings> {
        /// If nothing else is said.
        const TOKENS: usize = 10;
        if matches!(self.location, Location::Add | Location::Add1) && self.tokens.is_some() {
            let as_many = "with --location add and add-1 there are as many summands as tokens, or one: leave --tokens out";
            return Err(WrongUsage(as_many.into()).into());
        }
        let of_pixels = !matches!(
            self.location,
            Location::Prepend | Location::Add | Location::Add1
        );
        let usual = if of_pixels {
            Depth::Shallow
        } else {
            Depth::Deep
        };
        let tokens = match self.initial {
            InitialPrompts::Random => TOKENS,
            _ => classes,
        };
        Ok(VptSettings {
            tokens: self.tokens.unwrap_or(tokens),
            depth: self.depth.unwrap_or(usual),
            location: self.location,
            pooling: self.pooling,
            project: self.project,
            dropout: self.dropout,
            initial: self.initial,
        })
    }
}

impl GuidedArguments {
    /// The factor of the guidance.
    fn weight_or(&self, published: f32) -> f32 {
        self.weight.map_or(published, |weight| weight as f32)
    }

    /// The settings with this guidance, and where the context begins; `words` are what the method begins from if nothing
    /// is said.
    fn resolve<G>(
        &self,
        guidance: G,
        words: Option<&str>,
        model: &Model,
        dataset: &Dataset,
    ) -> Result<(GuidedSettings<G>, InitialContext)> {
        let (layout, initial) =
            self.context
                .resolve(&self.layout, CONTEXT_VECTORS, words, model)?;
        let settings = GuidedSettings {
            layout,
            templates: self.templates.lines(dataset)?,
            guidance,
        };
        Ok((settings, initial))
    }
}

impl TunedWordsArguments {
    /// The method that `make` makes of the templates, one a line, where it begins, and how it is trained.
    fn resolve(
        &self,
        dataset: &Dataset,
        make: impl FnOnce(String) -> Method,
    ) -> Result<(Method, InitialContext, Option<&TrainingArguments>)> {
        let method = make(self.templates.lines(dataset)?);
        Ok((method, InitialContext::Random, Some(&self.training)))
    }
}

impl TemplateArguments {
    /// One a line.
    fn lines(&self, dataset: &Dataset) -> Result<String> {
        let argument = match &self.templates {
            Some(templates) => templates,
            None => dataset.published_template().unwrap_or(TEMPLATE),
        };
        Ok(TemplateSet::from_argument(argument)?.lines())
    }
}

impl TargetArguments {
    fn resolve(&self, model: &Model, dataset: &Dataset) -> Result<Target> {
        let usual = match (&model.config().text, &self.mapping, &self.label_map) {
            (Some(_), None, None) => TargetArgument::Words,
            _ => TargetArgument::Labels,
        };
        let mapped = self.mapping.is_some() || self.label_map.is_some();
        match self.target.unwrap_or(usual) {
            TargetArgument::Words if mapped => {
                Err(WrongUsage("--mapping and --label-map go with --target labels".into()).into())
            }
            TargetArgument::Labels if self.templates.templates.is_some() => {
                Err(WrongUsage("--templates goes with --target words".into()).into())
            }
            TargetArgument::Words => Ok(Target::Words {
                templates: self.templates.lines(dataset)?,
            }),
            TargetArgument::Labels => Ok(Target::Labels {
                mapping: match (&self.label_map, &self.mapping) {
                    (Some(labels), _) => LabelMapping::Given(labels.clone()),
                    (None, Some(mapping)) => mapping.clone(),
                    (None, None) => LabelMapping::Iterative,
                },
            }),
        }
    }
}

impl ContextArguments {
    /// What is learned and where it begins; `words` are what the method begins from if nothing is said.
    fn resolve(
        &self,
        layout: &LayoutArguments,
        vectors: usize,
        words: Option<&str>,
        model: &Model,
    ) -> Result<(ContextLayout, InitialContext)> {
        let words = match (&self.init_words, &self.init, self.context_length) {
            (Some(words), _, _) => Some(words.replace('_', " ")),
            (None, None, None) => words.map(str::to_owned),
            _ => None,
        };
        let initial = match (words, &self.init) {
            (Some(words), _) => InitialContext::Words { words },
            (None, Some(path)) => InitialContext::File {
                path: std::path::absolute(path)?,
            },
            (None, None) => InitialContext::Random,
        };
        let found = match &initial {
            InitialContext::Words { words } if self.init_as_published => {
                Some(words.split(' ').count())
            }
            InitialContext::Words { words } => Some(model.tokenizer()?.encode(words)?.len()),
            InitialContext::File { path } => {
                let (_, shape) = PromptFile::read_tensor(path, CONTEXT)?; // [M, d] or [K, M, d]
                Some(shape.iter().rev().nth(1).copied().unwrap_or(0))
            }
            InitialContext::Random => None,
        };
        let length = match (self.context_length, found) {
            (Some(asked), Some(found)) if asked != found => {
                return Err(WrongUsage(format!(
                    "--context-length is {asked}, but the initialisation has {found} vectors: leave one of them out"
                ))
                .into());
            }
            (Some(length), _) | (None, Some(length)) => length,
            (None, None) => vectors,
        };
        if length == 0 {
            return Err(WrongUsage("a context has at least one vector".into()).into());
        }
        let published_words = match (&initial, self.init_as_published, layout.position) {
            (InitialContext::Words { words }, true, Position::End) => Some(words.clone()),
            (_, true, position) => {
                return Err(WrongUsage(format!(
                    "--init-as-published with --position {position}: the official code then takes surplus tokens for the class name; leave one of them out"
                ))
                .into());
            }
            (_, false, _) => None,
        };
        let layout = ContextLayout {
            length,
            class_specific: layout.class_specific,
            position: layout.position,
            published_words,
        };
        Ok((layout, initial))
    }
}

impl From<RecipeArgument> for RecipeName {
    fn from(argument: RecipeArgument) -> Self {
        match argument {
            RecipeArgument::Published => Self::Published,
            RecipeArgument::Fast => Self::Fast,
        }
    }
}

impl TrainingArguments {
    /// Puts explicit arguments in the recipe's place and notes which these are.
    fn change(&self, settings: &mut Settings) -> Result<()> {
        let training = &mut settings.training;
        let mut changed = |name: &str| settings.changed.push(name.to_owned());
        if let Some(epochs) = self.epochs {
            training.fit.epochs = epochs as usize;
            changed("epochs");
        }
        if let Some(BatchSize(size)) = self.batch_size {
            training.batch_size = size;
            changed("batch size");
        }
        if let Some(lr) = self.lr {
            training.fit.learning_rate = lr as f32;
            changed("learning rate");
        }
        if let Some(momentum) = self.momentum {
            let weight_decay = match training.fit.optimizer {
                Optimizer::Sgd { weight_decay, .. } => weight_decay,
                Optimizer::Adam { .. } | Optimizer::AdamW { .. } => PUBLISHED_WEIGHT_DECAY,
            };
            training.fit.optimizer = Optimizer::Sgd {
                momentum,
                weight_decay,
            };
            changed("momentum");
        }
        if let Some(asked) = self.weight_decay {
            match &mut training.fit.optimizer {
                Optimizer::Sgd { weight_decay, .. }
                | Optimizer::Adam { weight_decay, .. }
                | Optimizer::AdamW { weight_decay, .. } => *weight_decay = asked as f32,
            }
            changed("weight decay");
        }
        match self.views {
            None => {}
            Some(0) => {
                training.views = TrainingViews::Whole;
                changed("views");
            }
            Some(count) => {
                training.views = TrainingViews::Drawn { count };
                changed("views");
            }
        }
        Ok(())
    }
}
