//! `contextune resume`: goes on with a run that was stopped.

use std::path::PathBuf;

use anyhow::Result;
use contextune::run::RunFolder;
use serde::Deserialize;

use super::{pretrain, train};
use crate::examples;
use crate::options::Context;

/// Go on with a run that was stopped, from its last saved epoch.
///
/// Example: contextune resume runs/photos
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The run folder.
    run: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Method {
    method: String,
}

/// Goes on, or says that there is nothing to do.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    let folder = RunFolder::open(&arguments.run)?;
    if folder.result::<serde_json::Value>()?.is_some() {
        context
            .screen
            .remark(format!("{} is finished already", arguments.run.display()));
        return Ok(());
    }
    if folder.settings::<Method>()?.method == pretrain::METHOD {
        return pretrain::train(folder.settings()?, context, |_| Ok(folder));
    }
    let settings: train::Settings = folder.settings()?;
    let model = settings.model_arguments().open(context)?;
    let dataset = examples::open(&settings.data, settings.seed, context)?;
    let result = train::train(&settings, &dataset, &model, &folder, context)?;
    train::print(&result, &folder, arguments.json)
}
