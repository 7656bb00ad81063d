//! `contextune predict`: a learned prompt on loose pictures.

use std::path::PathBuf;

use anyhow::Result;
use contextune::run::{self, Settings};

use super::classify::{self, SHOWN};
use crate::learned::{self, MovedModel};
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
    moved: MovedModel,
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
    let (learned, model) = learned::open(&arguments.run, &arguments.moved, context)?;
    let settings = &learned.settings;
    let predictor = learned.any_predictor(&model, learned.class_names()?)?;
    let asked = Settings {
        strict: arguments.strict,
        ..settings.clone()
    };
    let encoder = run::encoder(&asked, &model, context.cache.clone())?;
    let (kept, inputs) = encoder.pictures(&paths, &Watch::new(context))?;
    let answers = predictor.all_answers(&inputs, SHOWN)?;
    classify::print(&paths, &kept, &answers, arguments.json)
}
