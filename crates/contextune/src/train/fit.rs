//! The one training loop.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Optimizer, OptimizerState, Parameters, Progress, Schedule, TrainError};

/// Something to be learned: parameters go in, a loss comes out. The loop knows nothing else of it.
pub trait Task {
    /// Steps in every epoch, at least one.
    fn steps(&self) -> usize;

    /// The examples of each step of an epoch, as many steps as [`Task::steps`] says.
    fn batches(&self, epoch: usize) -> Vec<Vec<usize>>;

    /// Called before every epoch, to renew what is not trained.
    ///
    /// # Errors
    /// What the task reports.
    fn begin_epoch(&self, _parameters: &mut Parameters) -> Result<(), TrainError> {
        Ok(())
    }

    /// Loss and gradients of one step; `leaves` are tracked. What is random in it derives from the step's place in the
    /// run alone, so that a resumed run repeats what an uninterrupted one would have done.
    fn step(&self, leaves: &Parameters, step: Step<'_>) -> Result<StepOutcome, TrainError>;

    /// Called after every step, to keep parameters inside their bounds.
    fn constrain(&self, _parameters: &mut Parameters) {}
}

/// One step of a run.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Its place in the run.
    pub progress: Progress,
    /// Its examples.
    pub batch: &'a [usize],
}

/// The outcome of one forward and backward pass.
#[derive(Debug)]
pub struct StepOutcome {
    /// Mean over the batch.
    pub loss: f32,
    /// Flat, by name; parameters that the loss did not reach are left out.
    pub gradients: BTreeMap<String, Tensor<1>>,
    /// Examples of the batch that were already right.
    pub correct: usize,
    /// Examples in the batch.
    pub examples: usize,
}

impl StepOutcome {
    /// The backward pass from `loss` to `leaves`, for a batch of which `correct` of `examples` were right.
    pub fn backward(loss: Tensor<1>, leaves: &Parameters, correct: usize, examples: usize) -> Self {
        Self {
            loss: loss.clone().inner().into_scalar(),
            gradients: leaves.gradients(&mut loss.backward()),
            correct,
            examples,
        }
    }

    /// The same direction, as long as one: all gradients are divided by the norm of them together.
    pub fn with_unit_gradient(mut self) -> Self {
        let squares = self.gradients.values().map(|gradient| {
            let square: f32 = gradient.clone().square().sum().into_scalar();
            f64::from(square)
        });
        let norm = squares.sum::<f64>().sqrt() as f32;
        if norm > 0.0 {
            for gradient in self.gradients.values_mut() {
                *gradient = gradient.clone() / norm;
            }
        }
        self
    }
}

/// How to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitSettings {
    /// Passes over the training data.
    pub epochs: usize,
    /// The full learning rate.
    pub learning_rate: f32,
    /// The update rule.
    pub optimizer: Optimizer,
    /// The rate over the run.
    pub schedule: Schedule,
}

/// Everything that a resumed run needs to go on as if it had not stopped.
#[derive(Clone, Debug)]
pub struct TrainingState {
    /// Epochs done.
    pub epochs_done: usize,
    /// The parameters after them.
    pub parameters: Parameters,
    /// The optimizer's memory after them.
    pub optimizer: OptimizerState,
}

impl TrainingState {
    /// The state before the first step.
    pub fn new(parameters: Parameters) -> Self {
        Self {
            epochs_done: 0,
            parameters,
            optimizer: OptimizerState::default(),
        }
    }
}

/// One epoch in numbers; a line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// Epoch, from one.
    pub epoch: usize,
    /// Mean loss over the epoch's examples.
    pub loss: f32,
    /// Share of the training examples that were right when they were seen.
    pub accuracy: f32,
    /// Learning rate of the epoch's last step.
    pub lr: f32,
    /// Seconds of training, without what observers do.
    pub seconds: f64,
}

/// Watches a run.
pub trait Observer {
    /// After every step.
    fn step(&mut self, _progress: Progress, _loss: f32) {}

    /// After every epoch; `Break` ends the run with the state as it is.
    fn epoch(
        &mut self,
        metrics: &EpochMetrics,
        state: &TrainingState,
    ) -> Result<ControlFlow<()>, TrainError>;
}

/// Trains `task` from where `state` is to the last epoch, or until the observer ends it.
///
/// # Errors
/// A loss that is not finite (the state then is that after the last whole epoch), and what task and observer report.
pub fn fit(
    task: &impl Task,
    settings: &FitSettings,
    state: &mut TrainingState,
    observer: &mut impl Observer,
) -> Result<(), TrainError> {
    while state.epochs_done < settings.epochs {
        let (metrics, next) = epoch(task, settings, state, observer)?;
        *state = next;
        if state.epochs_done == settings.epochs && !state.parameters.are_finite() {
            // No loss comes behind the last step to tell.
            return Err(TrainError::LossNotFinite {
                epoch: settings.epochs,
                step: task.steps(),
            });
        }
        if observer.epoch(&metrics, state)?.is_break() {
            break;
        }
    }
    Ok(())
}

fn epoch(
    task: &impl Task,
    settings: &FitSettings,
    state: &TrainingState,
    observer: &mut impl Observer,
) -> Result<(EpochMetrics, TrainingState), TrainError> {
    let mut state = state.clone();
    let mut trained = Duration::ZERO;
    let mut loss_sum = 0.0;
    let (mut correct, mut examples) = (0, 0);
    let mut learning_rate = 0.0;
    let started = Instant::now();
    task.begin_epoch(&mut state.parameters)?;
    trained += started.elapsed();
    for (step, batch) in task.batches(state.epochs_done).iter().enumerate() {
        let started = Instant::now();
        let progress = Progress {
            epoch: state.epochs_done,
            epochs: settings.epochs,
            step: state.epochs_done * task.steps() + step,
            steps: settings.epochs * task.steps(),
        };
        learning_rate = settings
            .schedule
            .learning_rate(settings.learning_rate, progress);
        let leaves = state.parameters.tracked();
        let outcome = task.step(&leaves, Step { progress, batch })?;
        if !outcome.loss.is_finite() {
            return Err(TrainError::LossNotFinite {
                epoch: state.epochs_done + 1,
                step: step + 1,
            });
        }
        settings.optimizer.step(
            &mut state.parameters,
            &outcome.gradients,
            learning_rate,
            &mut state.optimizer,
        );
        task.constrain(&mut state.parameters);
        loss_sum += f64::from(outcome.loss) * outcome.examples as f64;
        correct += outcome.correct;
        examples += outcome.examples;
        trained += started.elapsed();
        observer.step(progress, outcome.loss);
    }
    state.epochs_done += 1;
    let metrics = EpochMetrics {
        epoch: state.epochs_done,
        loss: (loss_sum / examples.max(1) as f64) as f32,
        accuracy: correct as f32 / examples.max(1) as f32,
        lr: learning_rate,
        seconds: trained.as_secs_f64(),
    };
    Ok((metrics, state))
}
