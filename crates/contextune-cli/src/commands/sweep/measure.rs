//! Reading what the runs came to, and measuring them on other classes and data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use contextune::data::{Split, Subset};
use contextune::run::{self, Learned, RunFolder, RunResult};
use contextune::task::{Classify, Measured};
use serde::{Deserialize, Serialize};

use super::job::Job;
use super::plan::{Experiment, Protocol};
use super::{Cell, Sweep, data_name};
use crate::watch::Watch;

/// What a run came to on data or classes that it did not learn.
#[derive(Debug, Serialize, Deserialize)]
struct Evaluation {
    accuracy: f32,
    examples: usize,
}

/// What the runs behind every cell came to.
pub struct Results {
    /// What they learned, by seed.
    pub results: BTreeMap<Cell, Vec<RunResult>>,
    /// Accuracy in per cent on what was not learned: the new classes, or the data sets of `to`, by place.
    pub others: BTreeMap<(Cell, usize), Vec<f64>>,
}

/// Reads the results, and measures what is missing on other classes and data.
pub fn measure(
    sweep: &Sweep<'_>,
    jobs: &BTreeMap<PathBuf, Job>,
    cells: &BTreeMap<Cell, Vec<PathBuf>>,
) -> Result<Results> {
    let mut measured = Results {
        results: BTreeMap::new(),
        others: BTreeMap::new(),
    };
    let bar = sweep.context.screen.bar("measure", cells.len());
    for (&cell, runs) in cells {
        let experiment = &sweep.plan.experiments[cell.0];
        for folder in runs {
            let Some(result) = jobs[folder].outcome()? else {
                continue; // only candidates diverge, and these are none
            };
            measured.results.entry(cell).or_default().push(result);
            for (place, other) in others(experiment, &jobs[folder]).into_iter().enumerate() {
                let accuracy = other_accuracy(sweep, folder, &other)?;
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
        Protocol::FewShot | Protocol::Fgvc | Protocol::Vtab => Vec::new(),
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
fn other_accuracy(sweep: &Sweep<'_>, folder: &Path, other: &Other) -> Result<Option<f64>> {
    let Sweep {
        datasets,
        model,
        context,
        ..
    } = sweep;
    let run = RunFolder::open(folder)?;
    let percent = |evaluation: Evaluation| Some(100.0 * f64::from(evaluation.accuracy));
    if let Some(evaluation) = run.evaluation(&other.name)? {
        return Ok(percent(evaluation));
    }
    let learned = Learned::open(folder, &context.device)?;
    learned.check_model(model)?;
    let dataset = datasets[&other.data].subset(other.subset);
    let names = &dataset.class_names;
    if !learned.method().takes_other_classes() && *names != learned.file.class_names {
        return Ok(None);
    }
    let predictor = learned.predictor::<Classify>(model, names)?;
    let encoder = run::encoder(&learned.settings, model, context.cache.clone())?;
    let watch = Watch::new(context);
    let measured = Measured::new(&predictor, &dataset, Split::Test, &encoder, &watch)?;
    let accuracy = measured.accuracy(names.len());
    let evaluation = Evaluation {
        accuracy: accuracy.share(),
        examples: accuracy.examples,
    };
    run.write_evaluation(&other.name, &evaluation)?;
    Ok(percent(evaluation))
}
