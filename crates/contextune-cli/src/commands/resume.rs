//! `contextune resume`: goes on with a run that was stopped.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use contextune::run::RunFolder;
use toml::{Table, Value};

use super::{pretrain, train};
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

/// Goes on, or says that there is nothing to do.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    let folder = RunFolder::open(&arguments.run)?;
    if folder.result::<serde_json::Value>()?.is_some() {
        context
            .screen
            .remark(format!("{} is finished already", arguments.run.display()));
        return Ok(());
    }
    if is_pretraining(&folder.settings()?) {
        return pretrain::train(folder.settings()?, context, |_| Ok(folder));
    }
    let settings = folder.run_settings()?;
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
    let dataset = settings.method.open_dataset(data, settings.split_seed())?;
    for warning in dataset.warnings() {
        context.screen.warning(warning);
    }
    train::learn_and_print(
        &settings,
        &*dataset,
        &model,
        &folder,
        context,
        arguments.json,
    )
}

/// Whether these are the settings of a pre-training run: their `method` is its name alone. That of a learned prompt is a table,
/// the name among its settings.
fn is_pretraining(settings: &Table) -> bool {
    settings.get("method").and_then(Value::as_str) == Some(pretrain::METHOD)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pretraining_run_is_told_by_its_method() {
        let kind = |settings: &str| is_pretraining(&settings.parse().unwrap());
        assert!(kind("method = \"pretrain\"\ndata = \"pictures\""));
        assert!(!kind("data = \"pictures\"\n[method]\nname = \"coop\""));
        assert!(!kind("[method]\nname = \"pretrain\""));
        assert!(!kind("method = \"coop\""));
        assert!(!kind("data = \"pictures\""));
    }
}
