//! Choosing rate and weight decay on validation pictures, where a protocol does.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use contextune::prompt::Grid;
use contextune::run::{RecipeName, RunFolder, RunResult, Settings};
use serde::Serialize;

use super::job::{Job, Rates, Role, Run};
use super::plan::Experiment;
use super::{Cell, Sweep, cells};

/// What a grid came to.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Choice {
    /// The point that is best on the validation pictures.
    #[serde(flatten)]
    pub rates: Rates,
    /// Accuracy there, in per cent.
    pub validation_accuracy: f64,
    /// Points tried.
    pub of: usize,
}

/// The runs of every cell's grid, on the cell's first seed; none for cells whose protocol or method has nothing to choose.
pub fn candidates(sweep: &Sweep<'_>) -> Result<BTreeMap<Cell, Vec<(Rates, Job)>>> {
    let mut candidates = BTreeMap::new();
    for (cell, run) in cells(sweep.plan) {
        let experiment = &sweep.plan.experiments[cell.0];
        if !experiment.protocol.chooses() {
            continue;
        }
        let settings = run.settings(sweep)?;
        if settings.training.fit.epochs == 0 {
            continue; // no steps, no rates
        }
        let jobs = points(experiment, &settings)
            .with_context(|| format!("the method {:?} of the plan", run.method))?
            .into_iter()
            .map(|rates| {
                let role = Role::Candidate(rates);
                Ok((rates, Run { role, ..run }.job(sweep)?))
            });
        candidates.insert(cell, jobs.collect::<Result<_>>()?);
    }
    Ok(candidates)
}

/// The points to try: the plan's, or those of the method's authors.
fn points(experiment: &Experiment, settings: &Settings) -> Result<Vec<Rates>> {
    let grid = match (&experiment.learning_rates, &experiment.weight_decays) {
        (None, decays) => {
            let grid = settings.method.learn().published_grid();
            let Some(grid) = grid.filter(|_| settings.recipe == RecipeName::Published) else {
                bail!(
                    "its authors have no grid of rates for this recipe: add --recipe published if it is vpt or finetune, or learning-rates = [...] to the experiment"
                )
            };
            Grid {
                weight_decays: decays.clone().unwrap_or(grid.weight_decays),
                ..grid
            }
        }
        (Some(rates), decays) => Grid {
            learning_rates: rates.clone(),
            weight_decays: decays.clone().unwrap_or_default(),
        },
    };
    let decays: Vec<Option<f32>> = match grid.weight_decays.is_empty() {
        true => vec![None],
        false => grid.weight_decays.into_iter().map(Some).collect(),
    };
    let points = grid.learning_rates.iter().flat_map(|&learning_rate| {
        decays.iter().map(move |&weight_decay| Rates {
            learning_rate,
            weight_decay,
        })
    });
    Ok(points.collect())
}

/// The best point of every grid.
pub fn choose(candidates: &BTreeMap<Cell, Vec<(Rates, Job)>>) -> Result<BTreeMap<Cell, Choice>> {
    let choice = |(cell, jobs): (&Cell, &Vec<(Rates, Job)>)| {
        let mut tried = Vec::with_capacity(jobs.len());
        for (rates, job) in jobs {
            let result: Option<RunResult> = RunFolder::open(&job.folder)?.result()?;
            let result =
                result.with_context(|| format!("{} has no result", job.folder.display()))?;
            tried.push((*rates, result.accuracy));
        }
        let (rates, accuracy) = best(&tried).context("a grid without points")?;
        let choice = Choice {
            rates,
            validation_accuracy: 100.0 * f64::from(accuracy),
            of: tried.len(),
        };
        Ok((*cell, choice))
    };
    candidates.iter().map(choice).collect()
}

/// The point of the highest accuracy; of equals the one with the smallest rate, as in the official code, and then the one
/// that comes first.
fn best(tried: &[(Rates, f32)]) -> Option<(Rates, f32)> {
    let better = |a: &(Rates, f32), b: &(Rates, f32)| {
        let by_rate = b.0.learning_rate.total_cmp(&a.0.learning_rate);
        a.1.total_cmp(&b.1).then(by_rate)
    };
    tried
        .iter()
        .copied()
        .reduce(|best, point| match better(&point, &best) {
            Ordering::Greater => point,
            Ordering::Less | Ordering::Equal => best,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equally_good_points_the_smallest_rate_is_taken_then_the_first() {
        let point = |learning_rate, decay, accuracy| {
            let weight_decay = Some(decay);
            let rates = Rates {
                learning_rate,
                weight_decay,
            };
            (rates, accuracy)
        };
        let tried = [
            point(5.0, 0.1, 0.5),
            point(1.0, 0.1, 0.75),
            point(0.5, 0.1, 0.75),
            point(0.5, 0.0, 0.75),
            point(0.1, 0.0, 0.25),
        ];
        assert_eq!(best(&tried), Some(tried[2]));
        assert_eq!(best(&[]), None);
    }
}
