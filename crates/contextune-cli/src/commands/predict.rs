//! `contextune predict`: a learned prompt on loose pictures.

use std::path::PathBuf;

use anyhow::Result;
use contextune::objective::similarity;

use super::train::values;
use crate::examples;
use crate::learned;
use crate::options::{Context, PictureArguments, PicturePaths};

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
    let paths = super::classify::pictures(&arguments.paths.paths)?;
    let mut learned = learned::open(&arguments.run, context)?;
    let classes = learned.prompt.class_names.clone();
    learned.use_classes(&classes)?;
    let pictures = PictureArguments {
        exif: learned.settings.exif,
        strict: arguments.strict,
    };
    let (kept, rows) = examples::encode_paths(&paths, &learned.model, &pictures, context)?;
    let texts = learned.prompt.stored_features(&context.device);
    let texts = texts.ok_or_else(|| anyhow::anyhow!("the prompt has no classes"))?;
    let logits = similarity::logits(rows, texts, learned.model.logit_scale()?);
    super::classify::print(&paths, &kept, &values(logits)?, &classes, arguments.json)
}
