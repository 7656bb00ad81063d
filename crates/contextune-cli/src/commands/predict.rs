//! `contextune predict`: a learned prompt on loose pictures.

use std::path::PathBuf;

use anyhow::Result;
use contextune::prompt;
use contextune::run::{self, Settings};

use crate::learned;
use crate::options::Context;
use crate::picture_paths::PicturePaths;
use crate::watch::Watch;

/// Classify pictures with what a run has learned.
///
/// Example: contextune predict runs/photos holiday.jpg
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The run folder.
    run: PathBuf,
    #[command(flatten)]
    paths: PicturePaths,
    /// Stop at the first picture that cannot be read, instead of leaving it out with a warning.
    #[arg(long)]
    strict: bool,
    /// One JSON object a picture.
    #[arg(long)]
    json: bool,
}

/// Predicts and prints.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    let paths = arguments.paths.pictures()?;
    let (learned, model) = learned::open(&arguments.run, context)?;
    let settings = &learned.settings;
    let classes = learned.class_names(&arguments.run)?;
    let prompt = learned.prompt(&model, classes)?;
    let asked = Settings {
        strict: arguments.strict,
        ..settings.clone()
    };
    let encoder = run::encoder(&asked, &model, context.cache.clone())?;
    let (kept, features) = encoder.pictures(&paths, &Watch::new(context))?;
    let logits = prompt::logits(
        &*prompt,
        &learned.file.parameters,
        &features,
        &context.device,
    )?;
    super::classify::print(&paths, &kept, &logits, classes, arguments.json)
}
