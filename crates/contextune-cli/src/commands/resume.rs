//! `contextune resume`: goes on with a run that was stopped.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use contextune::run::{RunFolder, Settings};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{pretrain, train};
use crate::examples;
use crate::options::{Context, open_model};

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

/// What tells a pre-training run from others: its method has no settings of its own.
#[derive(Deserialize)]
struct Kind {
    method: KindOfMethod,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum KindOfMethod {
    Name(String),
    WithSettings(IgnoredAny),
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
    let kind: Kind = folder.settings()?;
    if matches!(&kind.method, KindOfMethod::Name(name) if name == pretrain::METHOD) {
        return pretrain::train(folder.settings()?, context, |_| Ok(folder));
    }
    let settings: Settings = folder.settings()?;
    if let Some(checkpoint) = &settings.imported {
        return say_imported(&folder, checkpoint, context);
    }
    let Some(data) = &settings.data else {
        bail!(
            "{} does not say what data to learn from",
            arguments.run.display()
        );
    };
    let model = open_model(settings.model.as_deref(), settings.model_options(), context)?;
    let dataset = examples::open(data, settings.split_seed(), context)?;
    train::learn_and_print(
        &settings,
        &dataset,
        &model,
        &folder,
        context,
        arguments.json,
    )
}

/// An imported prompt was learned elsewhere: it is whole or was never written.
fn say_imported(folder: &RunFolder, checkpoint: &Path, context: &Context) -> Result<()> {
    let (run, checkpoint) = (folder.path().display(), checkpoint.display());
    if !folder.prompt_file().exists() {
        bail!("{run} has no prompt: import {checkpoint} again, with --force");
    }
    context.screen.remark(format!(
        "{run} is finished already: it was imported from {checkpoint}, and there is nothing to train; measure it with `contextune eval {run} --data`"
    ));
    Ok(())
}
