//! The official steps of a golden file, taken again.

use std::ops::ControlFlow;

use contextune::parameters::Parameters;
use contextune::train::{
    EpochMetrics, FitSettings, Observer, Problem, Progress, Step, StepOutcome, TrainError,
    TrainingState, fit,
};

use super::{Golden, TOLERANCE, assert_values_close, elements};

/// On what SGD moved, final − initial: as exact as the gradients.
pub const MOVED_BY_SGD: f64 = 2e-5;
/// The same for weights that move by a few thousandths: single precision rounds that much to 3e-5 of it.
pub const MOVED_LITTLE: f64 = 1e-4;
/// On what Adam moved: it divides by roots of small gradients.
pub const MOVED_BY_ADAM: f64 = 1e-4;

/// A tensor that is learned, and what the golden file calls its first gradient and what it becomes.
pub struct Learned {
    pub name: String,
    pub gradient: String,
    pub last: String,
}

impl Learned {
    /// As all golden files but those of CoOp call it.
    pub fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            gradient: format!("grad.{name}"),
            last: format!("final.{name}"),
        }
    }
}

/// Takes the official steps from the official beginning, `parameters`, through the one loop. Loss and gradients of the
/// first step, loss and rate of each, and what they moved, within `moved`, are those of the golden file.
pub fn replay(
    golden: &Golden,
    problem: &impl Problem<Error: std::fmt::Debug>,
    parameters: Parameters,
    learned: &[Learned],
    settings: &FitSettings,
    moved: f64,
) -> Parameters {
    let what = |what: &str| format!("{}: {what}", golden.name);
    let first = first_step(problem, &parameters);
    let official = golden.values("loss").0[0];
    assert_loss(&what("the first loss"), first.loss, official);
    assert_eq!(first.gradients.len(), learned.len());
    for Learned { name, gradient, .. } in learned {
        let ours = elements(first.gradients[name].clone());
        let official = golden.values(gradient).0;
        assert_values_close(&what(gradient), &ours, &official, TOLERANCE);
    }

    let (rates, losses) = (golden.values("lrs").0, golden.values("losses").0);
    let settings = FitSettings {
        epochs: rates.len(),
        ..settings.clone()
    };
    let mut state = TrainingState::new(parameters.clone());
    let mut history = History::default();
    fit(problem, &settings, &mut state, &mut history).unwrap();
    assert_eq!(history.0.len(), losses.len());
    for (epoch, (rate, loss)) in history.0.into_iter().zip(rates.into_iter().zip(losses)) {
        assert!(
            (epoch.lr - rate).abs() <= 1e-9,
            "{}: rate {}, official {rate}",
            golden.name,
            epoch.lr
        );
        assert_loss(&what("a later loss"), epoch.loss, loss);
    }

    for Learned { name, last, .. } in learned {
        let initial = parameters.data(name).unwrap();
        let moves = |values: &[f32]| -> Vec<f32> {
            let both = values.iter().zip(&initial);
            both.map(|(value, initial)| value - initial).collect()
        };
        let ours = moves(&state.parameters.data(name).unwrap());
        let official = moves(&golden.values(last).0);
        assert_values_close(
            &what(&format!("what {name} moved")),
            &ours,
            &official,
            moved,
        );
    }
    state.parameters
}

fn first_step(
    problem: &impl Problem<Error: std::fmt::Debug>,
    parameters: &Parameters,
) -> StepOutcome {
    let progress = Progress {
        epoch: 0,
        epochs: 1,
        step: 0,
        steps: 1,
    };
    let batch = problem.load(&problem.batches(0)[0]).unwrap();
    problem
        .step(&parameters.tracked(), Step { progress, batch })
        .unwrap()
}

#[track_caller]
fn assert_loss(what: &str, loss: f32, expected: f32) {
    assert!(
        (loss - expected).abs() <= 1e-4 * expected + 1e-5,
        "{what} is {loss}, expected {expected}"
    );
}

/// What each epoch came to.
#[derive(Default)]
struct History(Vec<EpochMetrics>);

impl Observer for History {
    fn epoch(
        &mut self,
        metrics: &EpochMetrics,
        _state: &TrainingState,
    ) -> Result<ControlFlow<()>, TrainError> {
        self.0.push(metrics.clone());
        Ok(ControlFlow::Continue(()))
    }
}
