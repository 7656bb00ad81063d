//! `contextune train METHOD`: a run from data to result.

mod arguments;

use anyhow::Result;
use contextune::data::Dataset;
use contextune::model::Model;
use contextune::run::{self, LearnError, Outcome, RunFolder, RunResult, Settings};

use super::report;
use crate::examples;
use crate::interrupt::Stopped;
use crate::options::Context;
use crate::watch::Watch;

pub use arguments::Arguments;
pub(super) use arguments::absolute_model;

/// Trains and prints.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    let common = arguments.common();
    let model = common.model.open(context)?;
    let dataset = examples::open(&common.data, common.split_seed(), context)?;
    let settings = arguments.settings(&model, &dataset)?;
    if let Some(file) = &dataset.features {
        run::encoder(&settings, &model, None)?.check(file)?;
    }
    settings.check(&model)?;
    let folder = common.folder(&settings)?;
    // A command of other than Unicode words cannot be kept as text.
    let words: Option<Vec<String>> = std::env::args_os()
        .map(|word| word.into_string().ok())
        .collect();
    if let Some([_, words @ ..]) = words.as_deref()
        && let Ok(command) =
            shlex::try_join(std::iter::once("contextune").chain(words.iter().map(String::as_str)))
    {
        folder.write_command(&command)?;
    }
    learn_and_print(&settings, &dataset, &model, &folder, context, common.json)
}

/// Learns what `settings` say in the one run that a command is about, writes its page, and prints what came of it.
pub fn learn_and_print(
    settings: &Settings,
    dataset: &Dataset,
    model: &Model,
    folder: &RunFolder,
    context: &Context,
    json: bool,
) -> Result<()> {
    let watch = Watch::of_the_run(context);
    let Outcome { result, measured } = learn(settings, dataset, model, folder, context, &watch)?;
    let watch = Watch::without_remarks(context);
    report::write(folder, Some(&measured), model, dataset, context, &watch);
    print(&result, folder, json)
}

/// The settings that `contextune` with these `words` would train with, `train` first.
pub fn settings_of(words: &[String], model: &Model, dataset: &Dataset) -> Result<Settings> {
    arguments::settings_of(words, model, dataset)
}

/// Learns what `settings` say; `watch` shows it.
pub fn learn(
    settings: &Settings,
    dataset: &Dataset,
    model: &Model,
    folder: &RunFolder,
    context: &Context,
    watch: &Watch<'_>,
) -> Result<Outcome> {
    let encoder = run::encoder(settings, model, context.cache.clone())?;
    run::learn(settings, dataset, model, &encoder, folder, watch).map_err(|error| match error {
        LearnError::Stopped {
            run,
            epochs_done,
            epochs,
        } => Stopped {
            run,
            epochs_done,
            epochs,
        }
        .into(),
        error => error.into(),
    })
}

/// Prints what came of a run.
pub fn print(result: &RunResult, folder: &RunFolder, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(result)?);
    } else {
        let kept = match result.prompt_bytes {
            Some(bytes) => format!(" in a file of {} kB", bytes.div_ceil(1000)),
            None => String::new(),
        };
        println!(
            "{}: {:.1} % on the {} split, {} learned numbers{}, {:.1} s of training; the run is in {}",
            result.method,
            100.0 * result.accuracy,
            result.split,
            result.parameters,
            kept,
            result.train_seconds,
            folder.path().display()
        );
    }
    Ok(())
}
