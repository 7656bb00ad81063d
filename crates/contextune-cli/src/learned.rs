//! A run that is used again, with its model.

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::Args;
use contextune::model::Model;
use contextune::run::Learned;

use crate::options::{Context, open_model};
use crate::output;

/// Where a run's model lies now.
#[derive(Clone, Debug, Args)]
pub struct MovedModel {
    /// The run's model, if it no longer lies where run.toml says; it must be the same model.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
}

/// Opens a run that has a prompt, and the model it was learned with.
pub fn open(run: &Path, moved: &MovedModel, context: &Context) -> Result<(Learned, Model)> {
    let learned = Learned::open(run, &context.device)?;
    let settings = &learned.settings;
    let name = moved.model.as_deref().or(settings.model.as_deref());
    let opened = open_model(name, settings.model_options(), context);
    let model = match (&moved.model, &settings.model) {
        (None, Some(name)) => opened.with_context(|| elsewhere(run, name))?,
        _ => opened?,
    };
    learned.check_model(&model)?;
    Ok((learned, model))
}

/// What to do about a run whose model cannot be opened.
pub fn elsewhere(run: &Path, model: &str) -> String {
    let file = run.join("run.toml");
    format!(
        "{} names the model {model}, which cannot be opened: say with --model where it lies now",
        output::path(&file)
    )
}
