//! `contextune sweep`: every run of a plan, and what they come to together.

mod plan;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail};
use contextune::data::{Dataset, Split, Subset};
use contextune::features::{EncodingWatcher, Sees, Views};
use contextune::model::Model;
use contextune::prompt;
use contextune::run::{self, LearnError, Learned, RunFolder, RunResult, RunWatcher, Settings};
use contextune::train::EpochMetrics;
use serde::{Deserialize, Serialize};

use self::plan::{Experiment, Plan, Protocol};
use super::train;
use crate::examples;
use crate::interrupt::EXIT_CODE;
use crate::options::{Context, ModelArguments};
use crate::watch::Watch;

/// From this width of the text tower on, a step keeps all cores busy by itself; below it, runs share the cores.
const WIDTH_OF_LARGE_TOWERS: usize = 512;

/// What a plan looks like.
const ABOUT_PLANS: &str = "\
Do every run of a plan and put what they come to into tables: mean ± standard deviation over seeds.

Runs that are finished are kept, one that was stopped goes on where it was: the same command completes a plan that was \
interrupted. The tables are printed and written beside the runs as summary.txt, summary.csv and summary.json. A plan:

  out = \"runs\"

  [[experiment]]
  title = \"Few-shot\"
  data = [\"photos\"]
  methods = [\"zeroshot\", \"coop\", \"coop --class-specific\"]
  shots = [1, 4, 16]

Methods take the options of `contextune train`. An experiment may also have seeds = [1, 2, 3], and protocol = \
\"base-to-new\", or \"transfer\" with to = [\"other-photos\"].

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

/// One run of a plan.
struct Job {
    data: PathBuf,
    settings: Settings,
    folder: PathBuf,
}

/// What a run came to on data or classes that it did not learn.
#[derive(Debug, Serialize, Deserialize)]
struct Evaluation {
    accuracy: f32,
    examples: usize,
}

/// A cell's way to its runs: experiment, data, method, shots.
type Cell = (usize, usize, usize, usize);

/// Runs the plan.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    let plan = Plan::read(&arguments.plan)?;
    let model = ModelArguments {
        model: plan.model.clone(),
        activation: None,
    };
    let model = model.open(context)?;
    let datasets = open_all(&plan, context)?;
    let (jobs, cells) = jobs(&plan, &datasets, &model)?;
    let missing: Vec<&Job> = jobs
        .values()
        .filter_map(|job| {
            is_missing(job)
                .map(|missing| missing.then_some(job))
                .transpose()
        })
        .collect::<Result<_>>()?;
    context.screen.remark(format!(
        "{} runs, {} of them done already",
        jobs.len(),
        jobs.len() - missing.len()
    ));
    if arguments.dry_run {
        for job in missing {
            println!("{}", job.folder.display());
        }
        return Ok(());
    }

    encode(&missing, &datasets, &model, context)?;
    learn(&missing, &datasets, &model, context)
        .with_context(|| format!("go on with: contextune sweep {}", arguments.plan.display()))?;
    let measured = measure(&plan, &jobs, &cells, &datasets, &model, context)?;
    let tables = tables::tables(&plan, &measured);
    tables::write(&plan.out, &tables)?;
    match arguments.json {
        true => println!("{}", serde_json::to_string(&tables)?),
        false => print!("{}", tables::text(&tables)),
    }
    Ok(())
}

/// Every data set of the plan, by path.
fn open_all(plan: &Plan, context: &Context) -> Result<BTreeMap<PathBuf, Dataset>> {
    let mut datasets = BTreeMap::new();
    for experiment in &plan.experiments {
        for path in experiment.data.iter().chain(&experiment.to) {
            if !datasets.contains_key(path) {
                // The seed of a run draws its shots; a folder without splits is split once, for all seeds.
                datasets.insert(path.clone(), examples::open(path, 1, context)?);
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

/// All runs by folder, and the runs behind each cell of the tables, by seed.
#[allow(clippy::type_complexity, reason = "two maps that are made together")]
fn jobs(
    plan: &Plan,
    datasets: &BTreeMap<PathBuf, Dataset>,
    model: &Model,
) -> Result<(BTreeMap<PathBuf, Job>, BTreeMap<Cell, Vec<PathBuf>>)> {
    let mut jobs = BTreeMap::new();
    let mut cells: BTreeMap<Cell, Vec<PathBuf>> = BTreeMap::new();
    for (e, experiment) in plan.experiments.iter().enumerate() {
        for (d, data) in experiment.data.iter().enumerate() {
            for (m, method) in experiment.methods.iter().enumerate() {
                for (s, shots) in experiment.all_shots().into_iter().enumerate() {
                    for &seed in &experiment.seeds {
                        let run = Run {
                            data,
                            method,
                            shots,
                            seed,
                            subset: experiment.subset(),
                        };
                        let job = run.job(plan, &datasets[data], model)?;
                        let runs = cells.entry((e, d, m, s)).or_default();
                        if !runs.contains(&job.folder) {
                            runs.push(job.folder.clone());
                        }
                        jobs.insert(job.folder.clone(), job);
                    }
                }
            }
        }
    }
    Ok((jobs, cells))
}

/// A run as a plan names it.
struct Run<'a> {
    data: &'a Path,
    method: &'a str,
    shots: Option<usize>,
    seed: u64,
    subset: Subset,
}

impl Run<'_> {
    /// Its settings, as `contextune train` would make them, and its folder.
    fn job(&self, plan: &Plan, dataset: &Dataset, model: &Model) -> Result<Job> {
        let mut settings = self.settings(plan, dataset, model)?;
        if !settings.method.learn().learns() && (settings.shots.is_some() || settings.seed != 1) {
            // Nothing is learned: one run is all runs.
            let once = Run {
                shots: None,
                seed: 1,
                ..*self
            };
            settings = once.settings(plan, dataset, model)?;
        }
        let shots = match settings.shots {
            Some(shots) => format!("{shots}-shots"),
            None => "all-shots".into(),
        };
        let subset = match self.subset {
            Subset::All => String::new(),
            subset => format!("-{subset}"),
        };
        let folder = plan
            .out
            .join(data_name(self.data))
            .join(folder_name(self.method))
            .join(format!("{shots}{subset}"))
            .join(format!("seed-{}", settings.seed));
        Ok(Job {
            data: self.data.to_owned(),
            settings,
            folder,
        })
    }

    fn settings(&self, plan: &Plan, dataset: &Dataset, model: &Model) -> Result<Settings> {
        let mut words: Vec<String> = vec!["train".into()];
        words.extend(split_words(self.method)?);
        let mut option = |name: &str, value: String| words.extend([format!("--{name}"), value]);
        option("data", self.data.display().to_string());
        option("seed", self.seed.to_string());
        option("subset", self.subset.to_string());
        if let Some(shots) = self.shots {
            option("shots", shots.to_string());
        }
        if let Some(model) = &plan.model {
            option("model", model.clone());
        }
        train::settings_of(&words, model, dataset)
            .with_context(|| format!("the method {:?} of the plan", self.method))
    }
}

/// Words as a shell splits them, as far as quotes go.
fn split_words(text: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in text.chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(character),
            (None, '"' | '\'') => {
                word.get_or_insert_default();
                quote = Some(character);
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(character),
        }
    }
    if quote.is_some() {
        bail!("{text:?} opens a quote and does not close it");
    }
    words.extend(word);
    Ok(words)
}

/// A method with its options as the name of a folder.
fn folder_name(method: &str) -> String {
    let mut name = String::new();
    for character in method.chars() {
        match character.is_alphanumeric() || character == '.' {
            true => name.push(character),
            false if !name.is_empty() && !name.ends_with('-') => name.push('-'),
            false => {}
        }
    }
    name.trim_end_matches('-').to_owned()
}

/// Whether a run is not finished; a run of other settings in its place is an error.
fn is_missing(job: &Job) -> Result<bool> {
    if !job.folder.exists() {
        return Ok(true);
    }
    let folder = RunFolder::open(&job.folder)?;
    if folder.settings::<Settings>()? != job.settings {
        bail!(
            "{} holds a run with other settings than the plan's: choose another out, or remove the folder",
            job.folder.display()
        );
    }
    Ok(folder.result::<RunResult>()?.is_none())
}

/// Encodes what the missing runs need, with all cores; afterwards every run finds it in the cache.
fn encode(
    missing: &[&Job],
    datasets: &BTreeMap<PathBuf, Dataset>,
    model: &Model,
    context: &Context,
) -> Result<()> {
    if context.cache.is_none() {
        return Ok(());
    }
    let watch = Watch::new(context);
    let mut whole = BTreeSet::new();
    for job in missing {
        let settings = &job.settings;
        if settings.method.learn().sees(model) != Sees::Features {
            continue; // nothing of it is kept
        }
        let dataset = &datasets[&job.data];
        let encoder = run::encoder(settings, model, context.cache.clone())?;
        if whole.insert(&job.data) {
            for split in [Split::Test, Split::Val] {
                if !dataset.split(split).is_empty() {
                    encoder.labelled(dataset, dataset.split(split), Views::Whole, &watch)?;
                }
            }
        }
        if settings.method.learn().learns() {
            run::training_features(settings, dataset, &encoder, &watch)?;
        }
    }
    Ok(())
}

/// Does the missing runs, several at a time where one leaves cores idle.
fn learn(
    missing: &[&Job],
    datasets: &BTreeMap<PathBuf, Dataset>,
    model: &Model,
    context: &Context,
) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let cores = rayon::current_num_threads();
    let config = model.config();
    let width = config
        .text
        .as_ref()
        .map_or(config.embedding_width, |text| text.width);
    let large = width >= WIDTH_OF_LARGE_TOWERS;
    let workers = if large { 1 } else { cores.min(missing.len()) };
    let bar = context.screen.bar("runs", missing.len());
    let _learning = context.interrupt.learning();
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<anyhow::Error>> = Mutex::new(None);
    let failed = || failure.lock().map_or(true, |failure| failure.is_some());
    std::thread::scope(|scope| -> Result<()> {
        for _ in 0..workers {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(cores / workers)
                .build()
                .context("cannot start the threads")?;
            let (bar, next, failure, failed) = (&bar, &next, &failure, &failed);
            scope.spawn(move || {
                while let Some(job) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = match context.interrupt.is_wanted() || failed() {
                        true => return,
                        false => pool.install(|| learn_one(job, datasets, model, context)),
                    };
                    bar.inc(1);
                    if let Err(error) = outcome
                        && let Ok(mut failure) = failure.lock()
                    {
                        failure.get_or_insert(error);
                    }
                }
            });
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    if context.interrupt.is_wanted() {
        context.screen.remark("stopped; the same command goes on");
        std::process::exit(EXIT_CODE.into());
    }
    match failure.into_inner().ok().flatten() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn learn_one(
    job: &Job,
    datasets: &BTreeMap<PathBuf, Dataset>,
    model: &Model,
    context: &Context,
) -> Result<()> {
    let folder = match job.folder.exists() {
        true => RunFolder::open(&job.folder)?,
        false => RunFolder::create(&job.folder, &job.settings, false)?,
    };
    let encoder = run::encoder(&job.settings, model, context.cache.clone())?;
    let dataset = &datasets[&job.data];
    let watch = Quiet { context };
    match run::learn(&job.settings, dataset, model, &encoder, &folder, &watch) {
        Ok(_) | Err(LearnError::Stopped { .. }) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("the run {}", job.folder.display())),
    }
}

/// One of several runs at a time: only the end of the whole is shown.
struct Quiet<'a> {
    context: &'a Context,
}

impl EncodingWatcher for Quiet<'_> {
    fn encoded(&self, _done: usize, _all: usize) {}

    /// Said when the features were encoded for all runs.
    fn remark(&self, _text: String) {}
}

impl RunWatcher for Quiet<'_> {
    fn begin(&self, _epochs_done: usize, _epochs: usize) {}

    fn epoch(&self, _metrics: &EpochMetrics, _epochs: usize) -> ControlFlow<()> {
        match self.context.interrupt.is_wanted() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

/// What the runs behind every cell came to, in per cent.
pub struct Measured {
    /// On the test split of what was learned.
    own: BTreeMap<Cell, Vec<f64>>,
    /// On what was not learned: the new classes, or the data sets of `to`, by place.
    others: BTreeMap<(Cell, usize), Vec<f64>>,
    /// Training seconds.
    seconds: BTreeMap<Cell, Vec<f64>>,
}

/// Reads the results, and measures what is missing on other classes and data.
fn measure(
    plan: &Plan,
    jobs: &BTreeMap<PathBuf, Job>,
    cells: &BTreeMap<Cell, Vec<PathBuf>>,
    datasets: &BTreeMap<PathBuf, Dataset>,
    model: &Model,
    context: &Context,
) -> Result<Measured> {
    let mut measured = Measured {
        own: BTreeMap::new(),
        others: BTreeMap::new(),
        seconds: BTreeMap::new(),
    };
    let bar = context.screen.bar("measure", cells.len());
    for (&cell, runs) in cells {
        let experiment = &plan.experiments[cell.0];
        for folder in runs {
            let result: Option<RunResult> = RunFolder::open(folder)?.result()?;
            let result = result.with_context(|| format!("{} has no result", folder.display()))?;
            measured
                .own
                .entry(cell)
                .or_default()
                .push(100.0 * f64::from(result.accuracy));
            measured
                .seconds
                .entry(cell)
                .or_default()
                .push(result.train_seconds);
            for (place, other) in others(experiment, &jobs[folder]).into_iter().enumerate() {
                let accuracy = other_accuracy(folder, &other, datasets, model, context)?;
                if let Some(accuracy) = accuracy {
                    measured
                        .others
                        .entry((cell, place))
                        .or_default()
                        .push(accuracy);
                }
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(measured)
}

/// What a run is measured on besides its own test split.
struct Other {
    /// Under this name the run folder keeps it.
    name: String,
    data: PathBuf,
    subset: Subset,
}

fn others(experiment: &Experiment, job: &Job) -> Vec<Other> {
    match experiment.protocol {
        Protocol::FewShot => Vec::new(),
        Protocol::BaseToNew => vec![Other {
            name: "new".into(),
            data: job.data.clone(),
            subset: Subset::New,
        }],
        Protocol::Transfer => experiment
            .to
            .iter()
            .map(|data| Other {
                name: format!("to-{}", data_name(data)),
                data: data.clone(),
                subset: Subset::All,
            })
            .collect(),
    }
}

/// Accuracy in per cent on other classes or data; `None` where the method says nothing about other classes.
fn other_accuracy(
    folder: &Path,
    other: &Other,
    datasets: &BTreeMap<PathBuf, Dataset>,
    model: &Model,
    context: &Context,
) -> Result<Option<f64>> {
    let run = RunFolder::open(folder)?;
    let percent = |evaluation: Evaluation| Some(100.0 * f64::from(evaluation.accuracy));
    if let Some(evaluation) = run.evaluation(&other.name)? {
        return Ok(percent(evaluation));
    }
    let learned = Learned::open(folder, &context.device)?;
    learned.check_model(folder, model)?;
    let dataset = datasets[&other.data].subset(other.subset);
    let names = &dataset.class_names;
    if !learned.file.method.learn().takes_other_classes() && *names != learned.file.class_names {
        return Ok(None);
    }
    let prompt = learned.prompt(model, names)?;
    let encoder = run::encoder(&learned.settings, model, context.cache.clone())?;
    let test = dataset.split(Split::Test);
    let features = encoder.labelled(&dataset, test, Views::Whole, &Watch::new(context))?;
    let parameters = &learned.file.parameters;
    let classes = names.len();
    let accuracy = prompt::accuracy(&*prompt, parameters, &features, classes, &context.device)?;
    let evaluation = Evaluation {
        accuracy: accuracy.share(),
        examples: accuracy.examples,
    };
    run.write_evaluation(&other.name, &evaluation)?;
    Ok(percent(evaluation))
}
