//! Measuring a run again: on which pictures, and how they are classified.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use contextune::data::{Dataset, Split, Subset};
use contextune::evaluate::Accuracy;
use contextune::model::Model;
use contextune::run::{self, Learned, RunFolder, RunResult, Settings};
use contextune::task::classify::per_class;
use contextune::task::{Classify, Measured};
use serde::Serialize;

use crate::examples;
use crate::options::{Context, WrongUsage};
use crate::output::{self, out};
use crate::style::HEADING;
use crate::watch::Watch;

/// What to measure a run on.
#[derive(Debug, clap::Args)]
pub struct MeasurableArguments {
    /// Data to measure on; without it those of the run.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// train, val or test. Without it the pictures that the run itself was measured on, or that split of other data.
    #[arg(long, value_parser = examples::split)]
    split: Option<Split>,
    /// Which classes; without it those of the run, or all of other data.
    #[arg(long, value_parser = examples::subset)]
    subset: Option<Subset>,
}

/// What a run is measured on.
pub struct Measurable {
    /// Where the data set lies.
    pub path: PathBuf,
    /// Which split of it.
    pub split: Split,
    /// Which classes of it.
    pub subset: Subset,
    /// The data set, cut to these classes.
    pub dataset: Dataset,
}

impl MeasurableArguments {
    /// Opens the data set for the run in the folder `run`.
    ///
    /// # Errors
    /// Neither the run nor the arguments name data, or the data cannot be read.
    pub fn open(&self, run: &Path, settings: &Settings, context: &Context) -> Result<Measurable> {
        let subset = match (self.subset, &self.data) {
            (Some(subset), _) => subset,
            (None, None) => settings.subset,
            (None, Some(_)) => Subset::All,
        };
        let Some(path) = self.data.as_ref().or(settings.data.as_ref()) else {
            return Err(WrongUsage(format!(
                "{} was imported without data: say with --data what to measure it on",
                run.display()
            ))
            .into());
        };
        let dataset = examples::open(path, settings.split_seed(), context)?;
        // What its result is of: where there was no test split it was measured on val.
        let own = RunFolder::open(run)?.result::<RunResult>()?;
        let own = own.map_or(settings.measure_on, |result| result.split);
        let dataset = match (self.split, &self.data, own) {
            // Few shots leave fewer validation pictures than the data set has, and perhaps others.
            (None, None, Split::Train | Split::Val) => {
                let asked = Settings {
                    subset,
                    ..settings.clone()
                };
                dataset.sampled(&asked.sampling())?
            }
            _ => dataset.subset(subset),
        };
        Ok(Measurable {
            path: path.clone(),
            split: self.split.unwrap_or(own),
            subset,
            dataset,
        })
    }
}

impl Measurable {
    /// Classifies the split with what a run has learned.
    ///
    /// # Errors
    /// The split is empty, and whatever the run or a picture brings.
    pub fn measure(
        &self,
        learned: &Learned,
        model: &Model,
        context: &Context,
    ) -> Result<Measured<Classify>> {
        self.check()?;
        let predictor = learned.predictor(model, &self.dataset.class_names)?;
        let encoder = run::encoder(&learned.settings, model, context.cache.clone())?;
        let watch = Watch::new(context);
        Ok(Measured::new(
            &predictor,
            &self.dataset,
            self.split,
            &encoder,
            &watch,
        )?)
    }

    /// Returns whether there is nothing to measure on.
    pub fn is_empty(&self) -> bool {
        self.dataset.split(self.split).is_empty()
    }

    /// Refuses an empty split.
    pub fn check(&self) -> Result<()> {
        if self.is_empty() {
            let path = self.dataset.root.display();
            bail!("{path} has no examples in the {} split", self.split);
        }
        Ok(())
    }
}

/// How a split is classified.
#[derive(Serialize)]
pub struct Summary {
    #[serde(serialize_with = "output::serialize_path")]
    data: PathBuf,
    split: String,
    subset: Subset,
    accuracy: f32,
    correct: usize,
    examples: usize,
    per_class: BTreeMap<String, f32>,
}

impl Summary {
    /// Summarises `accuracy`.
    pub fn of(measurable: &Measurable, accuracy: &Accuracy) -> Self {
        Self {
            data: measurable.path.clone(),
            split: measurable.split.to_string(),
            subset: measurable.subset,
            accuracy: accuracy.share(),
            correct: accuracy.correct,
            examples: accuracy.examples,
            per_class: per_class(accuracy, &measurable.dataset.class_names),
        }
    }

    /// Prints a line for all classes, and one for each.
    pub fn print(&self) {
        out!(
            "{HEADING}{:.1} %{HEADING:#} ({} of {} in the {} split of {})",
            100.0 * self.accuracy,
            self.correct,
            self.examples,
            self.split,
            self.data.display()
        );
        for (class, share) in &self.per_class {
            out!("{:>6.1} %  {class}", 100.0 * share);
        }
    }
}
