//! `contextune report`: runs as pages to look at.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use contextune::input::EncodingWatcher;
use contextune::model::Model;
use contextune::run::{AnyMeasured, RunFolder};
use contextune::task::TaskDataset;
use contextune_report::{Grounds, ReportError, RunReport, compare};

use crate::errors;
use crate::examples;
use crate::learned::{self, MovedModel};
use crate::options::Context;
use crate::output::{self, out};
use crate::watch::Watch;

/// Write the page of a run again, or a page that compares several.
///
/// Training writes the page of its run: report.html in its folder. It needs no network and no other file.
///
/// Example: contextune report runs/coop runs/vpt --out compared.html
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Run folders.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    #[command(flatten)]
    moved: MovedModel,
    /// Where the page goes; without it report.html in the run's folder, or here where several are compared.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Writes the page and prints where it is.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    let watch = Watch::new(context);
    let moved = &arguments.moved;
    let page = match &arguments.runs[..] {
        [run] => with_grounds(run, moved, context, |grounds| grounds.page(&watch))?,
        runs => {
            let gather = |run: &PathBuf| {
                with_grounds(run, moved, context, |grounds| {
                    RunReport::gather(grounds, &watch)
                })
            };
            compare(&runs.iter().map(gather).collect::<Result<Vec<_>>>()?)
        }
    };
    let out = match (&arguments.runs[..], arguments.out) {
        (_, Some(out)) => out,
        ([run], None) => RunFolder::open(run)?.report_file(),
        (_, None) => "report.html".into(),
    };
    std::fs::write(&out, page).with_context(|| format!("cannot write {}", out.display()))?;
    out!("{}", output::path(&out));
    Ok(())
}

/// Gives `show` a finished run with its model and data.
fn with_grounds<T>(
    run: &Path,
    moved: &MovedModel,
    context: &Context,
    show: impl FnOnce(&Grounds<'_>) -> Result<T, ReportError>,
) -> Result<T> {
    let folder = RunFolder::open(run)?;
    let moved = moved.if_missing(folder.run_settings()?.model.as_deref());
    let (learned, model) = learned::open(run, &moved, context)?;
    let Some(data) = &learned.settings.data else {
        bail!(
            "{} was imported without data, so there is nothing to show: measure it with `contextune eval {} --data`",
            run.display(),
            run.display()
        );
    };
    let dataset = examples::open(data, learned.settings.split_seed(), context)?;
    let grounds = Grounds {
        folder: &folder,
        model: &model,
        dataset: &dataset,
        cache: context.cache.as_deref(),
        measured: None,
    };
    Ok(show(&grounds)?)
}

/// The page of a run that was just finished; without `measured` it is measured again. What keeps the page from being written is
/// a remark: the run is whole without it.
pub fn write(
    folder: &RunFolder,
    measured: Option<&AnyMeasured>,
    model: &Model,
    dataset: &dyn TaskDataset,
    context: &Context,
    watcher: &dyn EncodingWatcher,
) -> Option<PathBuf> {
    let grounds = Grounds {
        folder,
        model,
        dataset,
        cache: context.cache.as_deref(),
        measured,
    };
    match grounds.write_page(watcher) {
        Ok(path) => Some(path),
        Err(error) => {
            let reason = errors::text(&error.into());
            context
                .screen
                .remark(format!("there is no page of the run: {reason}"));
            None
        }
    }
}
