//! Choosing rate and weight decay on validation pictures, where a protocol does.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, bail};
use contextune::method::Grid;
use contextune::method::RecipeName;
use contextune::run::Settings;
use serde::Serialize;

use super::job::{self, Job, Rates, Role, Run};
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
    /// Points whose loss grew beyond all bounds.
    pub diverged: usize,
}

/// What is tried to choose rates by.
pub struct Grids {
    /// Every run, by its folder.
    pub candidates: BTreeMap<PathBuf, Job>,
    /// The points of each cell whose protocol and method have something to choose, and their runs.
    points: BTreeMap<Cell, Vec<(Rates, PathBuf)>>,
}

/// The grid of every cell, on the cell's first seed.
pub fn grids(sweep: &Sweep<'_>) -> Result<Grids> {
    let mut grids = Grids {
        candidates: BTreeMap::new(),
        points: BTreeMap::new(),
    };
    for (cell, run) in cells(sweep.plan) {
        let experiment = &sweep.plan.experiments[cell.0];
        if !experiment.protocol.chooses() {
            continue;
        }
        let settings = run.settings(sweep)?;
        if settings.training.fit.epochs == 0 {
            continue; // no steps, no rates
        }
        let method = || format!("the method {:?} of the plan", run.method);
        if experiment.examples().is_none() {
            sweep.datasets[run.data].require_own_val()?;
        }
        if settings.method.uses_validation() {
            return Err(anyhow!(
                "it chooses settings by the validation pictures itself, so rates cannot be chosen by them as well"
            )
            .context(method()));
        }
        let mut points = Vec::new();
        for rates in rates(experiment, &settings).with_context(method)? {
            let role = Role::Candidate(rates);
            let job = Run { role, ..run }.job(sweep)?;
            if points.iter().all(|(_, folder)| *folder != job.folder) {
                points.push((rates, job.folder.clone()));
            }
            job::add(&mut grids.candidates, job)?;
        }
        grids.points.insert(cell, points);
    }
    Ok(grids)
}

/// The points to try: the plan's, or those of the method's authors.
fn rates(experiment: &Experiment, settings: &Settings) -> Result<Vec<Rates>> {
    let grid = match (&experiment.learning_rates, &experiment.weight_decays) {
        (None, decays) => {
            let grid = settings.method.published_grid();
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

impl Grids {
    /// The best point of every grid.
    pub fn choose(&self) -> Result<BTreeMap<Cell, Choice>> {
        let choice = |(cell, points): (&Cell, &Vec<(Rates, PathBuf)>)| {
            let mut tried = Vec::with_capacity(points.len());
            for (rates, folder) in points {
                if let Some(result) = self.candidates[folder].outcome()? {
                    let accuracy = result.accuracy.with_context(|| {
                        format!(
                            "{} was not measured, so no rates can be chosen",
                            folder.display()
                        )
                    })?;
                    tried.push((*rates, accuracy));
                }
            }
            let (rates, accuracy) = best(&tried)
                .context("the loss grew beyond all bounds at every rate: try lower ones, learning-rates = [...]")?;
            let choice = Choice {
                rates,
                validation_accuracy: 100.0 * f64::from(accuracy),
                of: points.len(),
                diverged: points.len() - tried.len(),
            };
            Ok((*cell, choice))
        };
        self.points.iter().map(choice).collect()
    }
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
