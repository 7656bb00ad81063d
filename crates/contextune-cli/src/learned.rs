//! A run that is used again, with its model.

use std::path::Path;

use anyhow::Result;
use contextune::model::Model;
use contextune::run::Learned;

use crate::options::{Context, open_model};

/// Opens a run that has a prompt, and the model it was learned with.
pub fn open(run: &Path, context: &Context) -> Result<(Learned, Model)> {
    let learned = Learned::open(run, &context.device)?;
    let settings = &learned.settings;
    let model = open_model(settings.model.as_deref(), settings.model_options(), context)?;
    learned.check_model(&model)?;
    Ok((learned, model))
}
