//! The runs of a plan: settings as `contextune train` would make them, and the folder each has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use contextune::data::Subset;
use contextune::run::{RunFolder, RunResult, Settings};
use serde::Serialize;

use super::{Sweep, data_name};
use crate::commands::train;

/// Under this name a run folder keeps that its run diverged.
const DIVERGED: &str = "diverged";
/// A data set without splits is split once, for the runs of all seeds.
pub const SPLIT_SEED: u64 = 1;

/// One run of a plan.
pub struct Job {
    pub data: PathBuf,
    pub settings: Settings,
    /// Whether the others go on when its loss grows beyond all bounds.
    pub may_diverge: bool,
    /// That would do it alone.
    pub command: String,
    pub folder: PathBuf,
}

impl Job {
    /// Whether the run is not finished; a run of other settings in its place is an error.
    pub fn is_missing(&self) -> Result<bool> {
        if !self.folder.exists() {
            return Ok(true);
        }
        let folder = RunFolder::open(&self.folder)?;
        if folder.settings::<Settings>()? != self.settings {
            bail!(
                "{} holds a run with other settings than the plan's: choose another out, or remove the folder",
                self.folder.display()
            );
        }
        Ok(!self.has_diverged(&folder)? && folder.result::<RunResult>()?.is_none())
    }

    /// Whether its loss grew beyond all bounds when it was done.
    fn has_diverged(&self, folder: &RunFolder) -> Result<bool> {
        Ok(self.may_diverge && folder.evaluation::<String>(DIVERGED)?.is_some())
    }

    /// Keeps that the loss grew beyond all bounds.
    pub fn write_diverged(&self, folder: &RunFolder, how: &str) -> Result<()> {
        Ok(folder.write_evaluation(DIVERGED, &how)?)
    }

    /// What it came to; `None` if it diverged.
    ///
    /// # Errors
    /// It is not finished.
    pub fn outcome(&self) -> Result<Option<RunResult>> {
        let folder = RunFolder::open(&self.folder)?;
        if self.has_diverged(&folder)? {
            return Ok(None);
        }
        let result = folder.result()?;
        let missing = || format!("{} has no result", self.folder.display());
        Ok(Some(result.with_context(missing)?))
    }
}

/// A run as a plan names it.
#[derive(Clone, Copy, PartialEq)]
pub struct Run<'a> {
    pub data: &'a Path,
    pub method: &'a str,
    /// Pictures of each class; absent: all.
    pub shots: Option<usize>,
    /// Pictures of all classes together, to learn from and to choose by; absent: all.
    pub examples: Option<usize>,
    pub seed: u64,
    pub subset: Subset,
    pub role: Role,
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// To be measured on the test split, trained at the rates of its method.
    Plain,
    /// To be measured on the validation split, so that rates can be chosen.
    Candidate(Rates),
    /// To be measured on the test split, trained at the rates that were chosen.
    Chosen {
        rates: Rates,
        /// On the validation pictures as well.
        refit: bool,
    },
}

/// A point of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rates {
    pub learning_rate: f32,
    /// Absent: the recipe's.
    pub weight_decay: Option<f32>,
}

/// Puts `job` among others by its folder; two that differ cannot share one.
pub fn add(jobs: &mut BTreeMap<PathBuf, Job>, job: Job) -> Result<()> {
    if let Some(other) = jobs.get(&job.folder)
        && other.settings != job.settings
    {
        bail!(
            "two runs of the plan that differ would have the folder {}: put them into plans of their own",
            job.folder.display()
        );
    }
    jobs.insert(job.folder.clone(), job);
    Ok(())
}

impl Run<'_> {
    /// Its settings, as `contextune train` would make them, and its folder.
    pub fn job(&self, sweep: &Sweep<'_>) -> Result<Job> {
        let mut run = *self;
        let mut settings = run.settings(sweep)?;
        if !settings.method.learns() {
            run = self.nothing_learned();
            settings = run.settings(sweep)?;
        }
        let shots = match (settings.shots, settings.examples) {
            (Some(shots), _) => format!("{shots}-shots"),
            (None, Some(examples)) => format!("{examples}-examples"),
            (None, None) => "all-shots".into(),
        };
        let subset = match self.subset {
            Subset::All => String::new(),
            subset => format!("-{subset}"),
        };
        let last = match self.role {
            Role::Candidate(rates) => format!("grid/seed-{}-{rates}", settings.seed),
            Role::Plain => format!("seed-{}", settings.seed),
            Role::Chosen { rates, .. } => format!("seed-{}-{rates}", settings.seed),
        };
        let folder = sweep
            .plan
            .out
            .join(data_name(self.data))
            .join(folder_name(self.method))
            .join(format!("{shots}{subset}"))
            .join(last);
        settings
            .check(sweep.model)
            .with_context(|| format!("the method {:?} of the plan", self.method))?;
        let words = run.words(sweep)?;
        let words = std::iter::once("contextune").chain(words.iter().map(String::as_str));
        Ok(Job {
            data: self.data.to_owned(),
            settings,
            may_diverge: matches!(run.role, Role::Candidate(_)),
            command: shlex::try_join(words)?,
            folder,
        })
    }

    /// Where nothing is learned, one run is all runs.
    fn nothing_learned(&self) -> Self {
        Self {
            shots: None,
            examples: None,
            seed: 1,
            role: Role::Plain,
            ..*self
        }
    }

    /// Its settings.
    pub fn settings(&self, sweep: &Sweep<'_>) -> Result<Settings> {
        let words = self.words(sweep)?;
        train::settings_of(&words, sweep.model, &sweep.datasets[self.data])
            .with_context(|| format!("the method {:?} of the plan", self.method))
    }

    /// The command line behind `contextune`.
    fn words(&self, sweep: &Sweep<'_>) -> Result<Vec<String>> {
        let mut words: Vec<String> = vec!["train".into()];
        let method = shlex::split(self.method);
        let unclosed = || format!("{:?} opens a quote and does not close it", self.method);
        words.extend(method.with_context(unclosed)?);
        let mut option = |name: &str, value: String| words.extend([format!("--{name}"), value]);
        option("data", self.data.display().to_string());
        option("seed", self.seed.to_string());
        if sweep.datasets[self.data].is_split_by_seed() {
            option("split-seed", SPLIT_SEED.to_string());
        }
        option("subset", self.subset.to_string());
        if let Some(shots) = self.shots {
            option("shots", shots.to_string());
        }
        if let Some(examples) = self.examples {
            option("examples", examples.to_string());
        }
        if let Some(model) = &sweep.plan.model {
            option("model", model.clone());
        }
        if let Role::Candidate(rates) | Role::Chosen { rates, .. } = self.role {
            option("lr", rates.learning_rate.to_string());
            if let Some(decay) = rates.weight_decay {
                option("weight-decay", decay.to_string());
            }
        }
        match self.role {
            Role::Candidate(_) => option("measure-on", "val".into()),
            Role::Chosen { refit: true, .. } => option("learn-from", "train-and-val".into()),
            Role::Plain | Role::Chosen { refit: false, .. } => {}
        }
        Ok(words)
    }
}

impl std::fmt::Display for Rates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "lr-{}", self.learning_rate)?;
        match self.weight_decay {
            Some(decay) => write!(f, "-wd-{decay}"),
            None => Ok(()),
        }
    }
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
