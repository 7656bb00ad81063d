//! `contextune train METHOD`: a run from data to result.
//!
//! A method is a file in `methods` and a line in the list there; what several methods share lies beside it.

mod common;
mod context;
mod guided;
mod methods;
mod target;
mod templates;
mod training;
mod values;

use anyhow::Result;
use clap::Parser;
use contextune::data::Dataset;
use contextune::method::RecipeName;
use contextune::model::Model;
use contextune::run::{self, LearnError, Outcome, RunFolder, RunResult, Settings};
use contextune::task::TaskDataset;

use self::common::CommonArguments;
use self::methods::{ChosenMethod, Setup};
use super::report;
use crate::examples;
use crate::interrupt::Stopped;
use crate::options::{Context, WrongUsage};
use crate::output::{self, out};
use crate::watch::Watch;

pub use self::common::absolute_model;

/// Learn a prompt, or measure zero-shot as a run like any other.
///
/// Example: contextune train coop --data photos --shots 16 --out runs/photos
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    method: ChosenMethod,
}

impl Arguments {
    fn common(&self) -> &CommonArguments {
        self.method.arguments().common()
    }

    /// Resolves all settings for this model and data set.
    fn settings(&self, model: &Model, dataset: &Dataset) -> Result<Settings> {
        let arguments = self.method.arguments();
        let common = arguments.common();
        let (method, initial) = arguments.method(&Setup {
            model,
            dataset,
            subset: common.subset,
        })?;
        let training = arguments.training();
        let recipe = training.map_or(RecipeName::Published, |training| training.recipe());
        let mut settings = common.settings(method, initial, recipe)?;
        if let Some(training) = training {
            training.change(&mut settings);
        }
        Ok(settings)
    }
}

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

/// Learns what `settings` say in the one run that a command is about, writes its page, and prints its result.
pub fn learn_and_print(
    settings: &Settings,
    dataset: &dyn TaskDataset,
    model: &Model,
    folder: &RunFolder,
    context: &Context,
    json: bool,
) -> Result<()> {
    let watch = Watch::of_the_run(context);
    let Outcome { result, measured } = learn(settings, dataset, model, folder, context, &watch)?;
    let watch = Watch::without_remarks(context);
    report::write(folder, measured.as_ref(), model, dataset, context, &watch);
    print(&result, folder, json)
}

/// Returns the settings that `contextune` with these `words`, `train` first, would train with.
///
/// # Errors
/// What clap says of the words, on one line.
pub fn settings_of(words: &[String], model: &Model, dataset: &Dataset) -> Result<Settings> {
    /// `train` as a command of its own.
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }
    let line = Line::try_parse_from(words).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        WrongUsage(first.trim_start_matches("error: ").to_owned())
    })?;
    line.arguments.settings(model, dataset)
}

/// Learns what `settings` say; `watch` shows the progress.
pub fn learn(
    settings: &Settings,
    dataset: &dyn TaskDataset,
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

/// Prints the result of a run.
pub fn print(result: &RunResult, folder: &RunFolder, json: bool) -> Result<()> {
    if json {
        out!("{}", serde_json::to_string(result)?);
    } else {
        let kept = match result.prompt_bytes {
            Some(bytes) => format!(" in a file of {} kB", bytes.div_ceil(1000)),
            None => String::new(),
        };
        let accuracy = match (result.accuracy, &result.unmeasured) {
            (Some(accuracy), _) => {
                format!("{:.1} % on the {} split", 100.0 * accuracy, result.split)
            }
            (None, reason) => format!(
                "not measured{}",
                reason
                    .as_ref()
                    .map_or_else(String::new, |reason| format!(" ({reason})"))
            ),
        };
        out!(
            "{}: {accuracy}, {} trainable parameters{kept}, {:.1} s of training; the run is in {}",
            result.method,
            result.parameters,
            result.train_seconds,
            output::path(folder.path())
        );
    }
    Ok(())
}
