//! `contextune models`: what `--model` can be given without a file of one's own.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use contextune::backbone::{ImageTowerConfig, ModelConfig};
use contextune::checkpoint::{self, OpenOptions, hub};
use contextune::model::{Model, ModelOptions};
use serde::Serialize;

use crate::options::Context;
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
///
/// Files and folders of one's own are models too: OpenAI's .pt, Hugging Face, OpenCLIP, .npz from JAX.
///
/// Example: contextune models
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answer {
    embedded: Described,
    /// The hub's cache; absent where there is no home folder.
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
        true => println!("{}", serde_json::to_string(&answer)?),
        false => print(&answer),
    }
    Ok(())
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
    anstream::println!("{HEADING}in this program, without --model{HEADING:#}");
    println!("  {}; knows icons, not photographs", answer.embedded.line());
    if let Some(cache) = &answer.cache {
        anstream::println!("\n{HEADING}on this disk, in {}{HEADING:#}", cache.display());
        if answer.cached.is_empty() {
            println!("  none yet");
        }
    }
    for cached in &answer.cached {
        let what = match &cached.model {
            Some(model) => model.line(),
            None => "not complete, or of a family that is not read".to_owned(),
        };
        println!("  {}: {what}; {}", cached.id, words::bytes(cached.bytes));
    }
    anstream::println!(
        "\n{HEADING}to fetch from the hub, among others of their families{HEADING:#}"
    );
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
        println!(
            "  {id}: {family}, {image_tower}, {image_size} × {image_size} pixels{width}{licence}"
        );
    }
}
