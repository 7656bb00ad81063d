//! A run that is used again, with its model.

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::Args;
use contextune::model::{Model, is_missing};
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

impl MovedModel {
    /// What is to be opened for a run that names `model`, where runs of other models may stand beside it: the moved one only if there
    /// is nothing in the named place.
    pub fn if_missing(&self, model: Option<&str>) -> Self {
        match model {
            Some(model) if is_missing(model) => self.clone(),
            _ => Self { model: None },
        }
    }
}

/// Opens a run that has a prompt, and the model it was learned with.
pub fn open(run: &Path, moved: &MovedModel, context: &Context) -> Result<(Learned, Model)> {
    let learned = Learned::open(run, &context.device)?;
    let settings = &learned.settings;
    let name = moved.model.as_deref().or(settings.model.as_deref());
    let opened = open_model(name, settings.model_options(), context);
    let model = match (&moved.model, &settings.model) {
        (None, Some(name)) if is_missing(name) => opened.with_context(|| {
            let file = run.join("run.toml");
            let file = output::path(&file);
            format!(
                "{file} names the model {name}, which is not there: give its place with --model"
            )
        })?,
        _ => opened?,
    };
    learned.check_model(&model)?;
    Ok((learned, model))
}
