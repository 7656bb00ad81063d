//! `contextune report`: runs as pages to look at.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use contextune::data::Dataset;
use contextune::input::EncodingWatcher;
use contextune::model::Model;
use contextune::report::{Grounds, RunReport, compare};
use contextune::run::{AnyMeasured, RunFolder};

use crate::errors;
use crate::examples;
use crate::learned;
use crate::options::Context;
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
    /// Where the page goes; without it report.html in the run's folder, or here where several are compared.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Writes the page and prints where it is.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    let reports = arguments
        .runs
        .iter()
        .map(|run| gather(run, context))
        .collect::<Result<Vec<_>>>()?;
    let page = match &reports[..] {
        [report] => report.page(),
        _ => compare(&reports),
    };
    let out = match (&arguments.runs[..], arguments.out) {
        (_, Some(out)) => out,
        ([run], None) => RunFolder::open(run)?.report_file(),
        (_, None) => "report.html".into(),
    };
    std::fs::write(&out, page).with_context(|| format!("cannot write {}", out.display()))?;
    println!("{}", out.display());
    Ok(())
}

fn gather(run: &Path, context: &Context) -> Result<RunReport> {
    let (learned, model) = learned::open(run, context)?;
    let Some(data) = &learned.settings.data else {
        bail!(
            "{} was imported without data, so there is nothing to show: measure it with `contextune eval {} --data`",
            run.display(),
            run.display()
        );
    };
    let dataset = examples::open(data, learned.settings.split_seed(), context)?;
    let folder = RunFolder::open(run)?;
    let grounds = Grounds {
        folder: &folder,
        model: &model,
        dataset: &dataset,
        cache: context.cache.as_deref(),
        measured: None,
    };
    Ok(RunReport::gather(&grounds, &Watch::new(context))?)
}

/// The page of a run that was just finished; without `measured` it is measured again. What keeps the page from being written is
/// a remark: the run is whole without it.
pub fn write(
    folder: &RunFolder,
    measured: Option<&AnyMeasured>,
    model: &Model,
    dataset: &Dataset,
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
