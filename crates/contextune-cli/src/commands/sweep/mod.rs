//! `contextune sweep`: every run of a plan, and what they come to together.

mod grid;
mod job;
mod learn;
mod measure;
mod plan;
mod tables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use contextune::data::Dataset;
use contextune::model::Model;

use self::grid::Choice;
use self::job::{Job, Role, Run, SPLIT_SEED};
use self::plan::Plan;
use crate::examples;
use crate::options::{Context, ModelArguments};
use crate::output::{self, out};

/// What a plan looks like.
const ABOUT_PLANS: &str = "\
Do every run of a plan and put what they come to into tables: mean ± standard deviation over seeds.

Runs that are finished are kept, one that was stopped goes on where it was: the same command completes a plan that was \
interrupted. The tables are printed and written beside the runs as summary.txt, summary.csv, summary.json and report.html. A plan:

  out = \"runs\"

  [[experiment]]
  title = \"Few-shot\"
  data = [\"photos\"]
  methods = [\"zeroshot\", \"coop\", \"coop --class-specific\"]
  shots = [1, 4, 16]

Methods take the options of `contextune train`. An experiment may also have seeds = [1, 2, 3], and a protocol: \
\"base-to-new\"; \"transfer\" with to = [\"other-photos\"]; \"fgvc\", which chooses rate and weight decay of the first seed on \
the validation pictures, from the grid of a method's authors (methods with --recipe published) or from learning-rates = [0.1, 1] \
and weight-decays = [0, 0.01]; or \"vtab\", which does so on examples = 1000 pictures, four fifths to learn from, and then learns \
from all of them.

Example: contextune sweep plan.toml";

/// Do every run of a plan and put what they come to into tables.
///
/// Example: contextune sweep plan.toml
#[derive(Debug, clap::Args)]
#[command(long_about = ABOUT_PLANS)]
pub struct Arguments {
    /// The plan.
    plan: PathBuf,
    /// Print the tables as JSON.
    #[arg(long)]
    json: bool,
    /// Say what is done and what is missing, and run nothing.
    #[arg(long)]
    dry_run: bool,
}

/// A cell's way to its runs: experiment, data, method, shots.
type Cell = (usize, usize, usize, usize);

/// What all runs of a plan share.
struct Sweep<'a> {
    plan: &'a Plan,
    datasets: &'a BTreeMap<PathBuf, Dataset>,
    model: &'a Model,
    context: &'a Context,
}

/// Runs the plan.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    let plan = Plan::read(&arguments.plan)?;
    let model = ModelArguments {
        model: plan.model.clone(),
        activation: None,
    };
    let model = model.open(context)?;
    let datasets = open_all(&plan, context)?;
    let sweep = Sweep {
        plan: &plan,
        datasets: &datasets,
        model: &model,
        context,
    };
    let go_on = || format!("go on with: contextune sweep {}", arguments.plan.display());

    let grids = grid::grids(&sweep)?;
    let missing = missing(grids.candidates.values())?;
    if arguments.dry_run && !missing.is_empty() {
        context.screen.remark(format!(
            "{} runs choose rates; which runs follow depends on them",
            missing.len()
        ));
        list(&missing);
        return Ok(());
    }
    if !missing.is_empty() {
        context
            .screen
            .remark(format!("{} runs to choose rates by", missing.len()));
        learn::learn_all(&sweep, &missing).with_context(go_on)?;
    }
    let chosen = grids.choose()?;

    let (jobs, cells) = jobs(&sweep, &chosen)?;
    let missing = self::missing(jobs.values())?;
    context.screen.remark(format!(
        "{} runs, {} of them done already",
        jobs.len(),
        jobs.len() - missing.len()
    ));
    if arguments.dry_run {
        list(&missing);
        return Ok(());
    }
    learn::learn_all(&sweep, &missing).with_context(go_on)?;
    let measured = measure::measure(&sweep, &jobs, &cells)?;
    let tables = tables::tables(&plan, &measured, &chosen);
    tables::write(&plan, &tables)?;
    match arguments.json {
        true => out!("{}", serde_json::to_string(&tables)?),
        false => output::print(format_args!("{}", tables::text(&tables))),
    }
    Ok(())
}

/// Those that are not finished.
fn missing<'a>(jobs: impl Iterator<Item = &'a Job>) -> Result<Vec<&'a Job>> {
    jobs.filter_map(|job| {
        job.is_missing()
            .map(|missing| missing.then_some(job))
            .transpose()
    })
    .collect()
}

fn list(missing: &[&Job]) {
    for job in missing {
        out!("{}", output::path(&job.folder));
    }
}

/// Every data set of the plan, by path.
fn open_all(plan: &Plan, context: &Context) -> Result<BTreeMap<PathBuf, Dataset>> {
    let mut datasets = BTreeMap::new();
    for experiment in &plan.experiments {
        for path in experiment.data.iter().chain(&experiment.to) {
            if !datasets.contains_key(path) {
                // The seed of a run draws its shots; a data set without splits is split once.
                datasets.insert(path.clone(), examples::open(path, SPLIT_SEED, context)?);
            }
        }
    }
    let mut names: BTreeMap<String, &Path> = BTreeMap::new();
    for path in datasets.keys() {
        if let Some(other) = names.insert(data_name(path), path) {
            bail!(
                "{} and {} have the same name: rename one of the folders",
                other.display(),
                path.display()
            );
        }
    }
    Ok(datasets)
}

/// What tables and folders call a data set.
fn data_name(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Every cell of the plan's tables, and the run of its first seed.
fn cells(plan: &Plan) -> Vec<(Cell, Run<'_>)> {
    let mut cells = Vec::new();
    for (e, experiment) in plan.experiments.iter().enumerate() {
        for (d, data) in experiment.data.iter().enumerate() {
            for (m, method) in experiment.methods.iter().enumerate() {
                for (s, shots) in experiment.all_shots().into_iter().enumerate() {
                    let run = Run {
                        data,
                        method,
                        shots,
                        examples: experiment.examples(),
                        seed: experiment.seeds()[0],
                        subset: experiment.subset(),
                        role: Role::Plain,
                    };
                    cells.push(((e, d, m, s), run));
                }
            }
        }
    }
    cells
}

/// All runs by folder, and the runs behind each cell of the tables, by seed.
#[allow(clippy::type_complexity, reason = "two maps that are made together")]
fn jobs(
    sweep: &Sweep<'_>,
    chosen: &BTreeMap<Cell, Choice>,
) -> Result<(BTreeMap<PathBuf, Job>, BTreeMap<Cell, Vec<PathBuf>>)> {
    let mut jobs = BTreeMap::new();
    let mut folders: BTreeMap<Cell, Vec<PathBuf>> = BTreeMap::new();
    for (cell, first) in cells(sweep.plan) {
        let experiment = &sweep.plan.experiments[cell.0];
        let role = match chosen.get(&cell) {
            None => Role::Plain,
            Some(choice) => Role::Chosen {
                rates: choice.rates,
                refit: experiment.refits(),
            },
        };
        for seed in experiment.seeds() {
            let job = Run {
                seed,
                role,
                ..first
            }
            .job(sweep)?;
            let runs = folders.entry(cell).or_default();
            if !runs.contains(&job.folder) {
                runs.push(job.folder.clone());
            }
            job::add(&mut jobs, job)?;
        }
    }
    Ok((jobs, folders))
}
