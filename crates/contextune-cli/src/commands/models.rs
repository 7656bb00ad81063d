//! `contextune models`: what `--model` can be given without a file of one's own.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use contextune::backbone::{ImageTowerConfig, ModelConfig};
use contextune::checkpoint::{self, OpenOptions, hub};
use contextune::image::{Middle, Preprocess, Resize};
use contextune::model::{Model, ModelOptions};
use serde::Serialize;

use crate::options::{Context, ModelArguments};
use crate::output::{self, out};
use crate::style::HEADING;
use crate::words;

/// Models of the hub that this program's documents name; any other of their families is read as well.
const KNOWN: [Known; 2] = [
    Known {
        id: "openai/clip-vit-base-patch32",
        family: "CLIP",
        image_tower: "ViT, patches of 32",
        image_size: 224,
        embedding_width: Some(512),
        licence: None,
    },
    Known {
        id: "facebook/dinov2-small",
        family: "pictures alone (DINOv2)",
        image_tower: "ViT, patches of 14",
        image_size: 224,
        embedding_width: None,
        licence: Some("Apache-2.0"),
    },
];

/// List the models that --model takes by name: the one in this program, those of the hub that are on this disk, and some to fetch.
/// With --model: what that one is and how it wants its pictures.
///
/// Files and folders of one's own are models too: OpenAI's .pt, Hugging Face, OpenCLIP, .npz from JAX.
///
/// Example: contextune models
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answer {
    embedded: Described,
    /// The hub's cache; absent where there is no home folder.
    #[serde(serialize_with = "output::serialize_some_path")]
    cache: Option<PathBuf>,
    cached: Vec<Cached>,
    known: [Known; 2],
}

/// A model that can be opened.
#[derive(Serialize)]
struct Described {
    family: &'static str,
    image_tower: String,
    /// Side of its pictures in pixels.
    image_size: usize,
    embedding_width: usize,
}

/// One model, and how it wants its pictures.
#[derive(Serialize)]
struct Single {
    #[serde(flatten)]
    model: Described,
    preprocess: Preprocess,
    mean: [f32; 3],
    std: [f32; 3],
    fingerprint: String,
}

/// A model in the hub's cache.
#[derive(Serialize)]
struct Cached {
    id: String,
    bytes: u64,
    /// Absent for one that is not complete or not of a family that is read.
    model: Option<Described>,
}

/// A model of the hub; what is not known is absent.
#[derive(Clone, Copy, Serialize)]
struct Known {
    id: &'static str,
    family: &'static str,
    image_tower: &'static str,
    image_size: usize,
    embedding_width: Option<usize>,
    licence: Option<&'static str>,
}

impl Described {
    fn of(config: &ModelConfig) -> Self {
        Self {
            family: match config.text {
                Some(_) => "CLIP",
                None => "pictures alone",
            },
            image_tower: match &config.image {
                ImageTowerConfig::Vit(vit) => format!("ViT, patches of {}", vit.patch_size),
                ImageTowerConfig::ResNet(_) => "ResNet".to_owned(),
                ImageTowerConfig::EfficientNet(_) => "EfficientNet-Lite".to_owned(),
            },
            image_size: config.image.image_size(),
            embedding_width: config.embedding_width,
        }
    }

    fn line(&self) -> String {
        let Self {
            family,
            image_tower,
            image_size,
            embedding_width,
        } = self;
        format!(
            "{family}, {image_tower}, {image_size} × {image_size} pixels, features of {embedding_width}"
        )
    }
}

/// Looks and prints.
pub fn run(arguments: &Arguments, context: &Context) -> Result<()> {
    if arguments.model.model.is_some() {
        let model = arguments.model.open(context)?;
        let normalization = model.normalization_values();
        let single = Single {
            model: Described::of(model.config()),
            preprocess: model.preprocess(model.config().image.image_size()),
            mean: normalization.mean,
            std: normalization.std,
            fingerprint: model.fingerprint()?,
        };
        match arguments.json {
            true => out!("{}", serde_json::to_string(&single)?),
            false => single.print(),
        }
        return Ok(());
    }
    let embedded = Model::open(None, ModelOptions::default(), &context.device, |_| ())?;
    let options = hub::Options::from_env();
    let cached = match &options {
        Some(options) => hub::cached(options).context("cannot look into the hub's cache")?,
        None => Vec::new(),
    };
    let answer = Answer {
        embedded: Described::of(embedded.config()),
        cache: options.map(|options| options.cache),
        cached: cached.into_iter().map(described).collect(),
        known: KNOWN,
    };
    match arguments.json {
        true => out!("{}", serde_json::to_string(&answer)?),
        false => print(&answer),
    }
    Ok(())
}

impl Single {
    fn print(&self) {
        let Preprocess {
            size,
            resize,
            filter,
            fill,
            middle,
            rgb_first,
        } = self.preprocess;
        let resized = match resize {
            Resize::Unchanged => "their size is kept".to_owned(),
            Resize::ShorterSide(side) => format!("the shorter side becomes {side} pixels"),
            Resize::LongerSide(side) => format!("the longer side becomes {side} pixels"),
            Resize::Square(side) => format!("all of them is squashed into {side} × {side} pixels"),
        };
        let filter = format!("{filter:?}").to_lowercase();
        let odd = match middle {
            Middle::RoundedToEven => "to the even number",
            Middle::RoundedDown => "down",
        };
        let order = if rgb_first { "before" } else { "after" };
        let [mean, std] =
            [self.mean, self.std].map(|values| values.map(|value| format!("{value:.4}")).join(" "));
        out!("{}", self.model.line());
        out!("  pictures     {resized} ({filter})");
        out!(
            "  middle       {size} × {size} pixels, half of an odd margin rounded {odd}; {fill:?} around what is smaller"
        );
        out!("  RGB          {order} that");
        out!("  pixels       in 0 … 1, less {mean}, divided by {std}");
        out!("  fingerprint  {}", self.fingerprint);
    }
}

fn described(cached: hub::CachedModel) -> Cached {
    let checkpoint = cached
        .folder
        .and_then(|folder| checkpoint::open(&folder, OpenOptions::default()).ok());
    Cached {
        id: cached.id,
        bytes: cached.bytes,
        model: checkpoint.map(|checkpoint| Described::of(&checkpoint.config)),
    }
}

fn print(answer: &Answer) {
    out!("{HEADING}in this program, without --model{HEADING:#}");
    out!("  {}; knows icons, not photographs", answer.embedded.line());
    if let Some(cache) = &answer.cache {
        out!("\n{HEADING}on this disk, in {}{HEADING:#}", cache.display());
        if answer.cached.is_empty() {
            out!("  none yet");
        }
    }
    for cached in &answer.cached {
        let what = match &cached.model {
            Some(model) => model.line(),
            None => "not complete, or of a family that is not read".to_owned(),
        };
        out!("  {}: {what}; {}", cached.id, words::bytes(cached.bytes));
    }
    out!("\n{HEADING}to fetch from the hub, among others of their families{HEADING:#}");
    for known in answer.known {
        let Known {
            id,
            family,
            image_tower,
            image_size,
            ..
        } = known;
        let width = known
            .embedding_width
            .map_or_else(String::new, |width| format!(", features of {width}"));
        let licence = known
            .licence
            .map_or_else(String::new, |licence| format!("; {licence}"));
        out!("  {id}: {family}, {image_tower}, {image_size} × {image_size} pixels{width}{licence}");
    }
}
