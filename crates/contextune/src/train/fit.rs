//! The one training loop.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Optimizer, OptimizerState, Progress, Schedule, TrainError};
use crate::parameters::{ExpectedTensor, ParameterError, Parameters};

/// Something to be learned: parameters go in, a loss comes out. The loop knows nothing else of it.
pub trait Problem: Sync {
    /// The examples of a step, read and ready.
    type Batch: Send;
    /// What can go wrong in it.
    type Error: From<TrainError> + Send;

    /// Returns the number of steps in every epoch, at least one.
    fn steps(&self) -> usize;

    /// Returns the numbers of the examples of each step of an epoch, as many steps as [`Problem::steps`] says.
    fn batches(&self, epoch: usize) -> Vec<Vec<usize>>;

    /// Renews what is found and not trained; called before every epoch.
    ///
    /// # Errors
    /// What the problem reports.
    fn begin_epoch(&self, _parameters: &mut Parameters) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Reads the examples of one step. Called on a thread beside the loop, one step ahead of [`Problem::step`].
    ///
    /// # Errors
    /// An example that cannot be read.
    fn load(&self, examples: &[usize]) -> Result<Self::Batch, Self::Error>;

    /// Returns loss and gradients of one step; `leaves` are tracked. What is random in it derives from the step's place in
    /// the run alone, so that a resumed run repeats what an uninterrupted one would have done.
    ///
    /// # Errors
    /// What the problem reports.
    fn step(
        &self,
        leaves: &Parameters,
        step: Step<Self::Batch>,
    ) -> Result<StepOutcome, Self::Error>;

    /// Keeps parameters inside their bounds; called after every step.
    fn constrain(&self, _parameters: &mut Parameters) {}
}

/// One step of a run.
#[derive(Clone, Copy, Debug)]
pub struct Step<B> {
    /// Its place in the run.
    pub progress: Progress,
    /// Its examples.
    pub batch: B,
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

impl TrainingState {
    /// Checks that this is the state of a run of so many `epochs`, of so many steps each, that began with `beginning`.
    ///
    /// # Errors
    /// More epochs done than the run has, or a tensor that is missing, left over, of another shape, constant where it should be
    /// learned or the other way about, or not finite.
    pub fn check(
        &self,
        beginning: &Parameters,
        epochs: usize,
        steps: usize,
    ) -> Result<(), StateError> {
        if self.epochs_done > epochs {
            return Err(StateError::TooFar {
                done: self.epochs_done,
                epochs,
            });
        }
        let expected = self.epochs_done.saturating_mul(steps);
        if self.optimizer.steps != expected {
            return Err(StateError::Steps {
                done: self.optimizer.steps,
                expected,
            });
        }
        let mut table = Vec::new();
        for name in beginning.names() {
            table.push(ExpectedTensor::new(
                name.to_owned(),
                beginning.require_any(name)?,
            ));
            if self.parameters.shape(name).is_some()
                && self.parameters.is_constant(name) != beginning.is_constant(name)
            {
                return Err(StateError::Constant { name: name.into() });
            }
        }
        self.parameters.check(&table)?;
        for (name, moment) in self.optimizer.first.iter().chain(&self.optimizer.second) {
            let elements: usize = self.parameters.require_any(name)?.iter().product();
            if self.parameters.is_constant(name) || !self.optimizer.first.contains_key(name) {
                return Err(ParameterError::Unexpected {
                    name: format!("{name}'s moment"),
                }
                .into());
            }
            if moment.dims() != [elements] {
                return Err(ParameterError::Shape {
                    name: format!("{name}'s moment"),
                    found: moment.dims().to_vec(),
                    expected: format!("[{elements}]"),
                }
                .into());
            }
        }
        Ok(())
    }
}

/// Why a training state does not belong to a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// More epochs are done than the run has.
    #[error("{done} epochs are done, but the run has {epochs}")]
    TooFar {
        /// Epochs done.
        done: usize,
        /// Epochs of the run.
        epochs: usize,
    },
    /// Another number of steps is done than the epochs have.
    #[error("{done} steps are done, but the epochs that are done have {expected}")]
    Steps {
        /// Steps done.
        done: usize,
        /// Steps of the epochs that are done.
        expected: usize,
    },
    /// A tensor is constant where it should be learned, or the other way about.
    #[error("the tensor {name} is constant where it should be learned, or the other way about")]
    Constant {
        /// Its name.
        name: String,
    },
    /// A tensor does not fit.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
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

/// Trains `problem` from where `state` is to the last epoch, or until the observer ends it.
///
/// # Errors
/// A loss that is not finite (the state then is that after the last whole epoch), and what problem and observer report.
pub fn fit<P: Problem>(
    problem: &P,
    settings: &FitSettings,
    state: &mut TrainingState,
    observer: &mut impl Observer,
) -> Result<(), P::Error> {
    while state.epochs_done < settings.epochs {
        let (metrics, next) = epoch(problem, settings, state, observer)?;
        *state = next;
        if state.epochs_done == settings.epochs {
            // No loss comes behind the last step to tell.
            state
                .parameters
                .check_finite()
                .map_err(|error| match error {
                    ParameterError::NotFinite { .. } => TrainError::LossNotFinite {
                        epoch: settings.epochs,
                        step: problem.steps(),
                    },
                    other => other.into(),
                })?;
        }
        if observer.epoch(&metrics, state)?.is_break() {
            break;
        }
    }
    Ok(())
}

fn epoch<P: Problem>(
    problem: &P,
    settings: &FitSettings,
    state: &TrainingState,
    observer: &mut impl Observer,
) -> Result<(EpochMetrics, TrainingState), P::Error> {
    let mut state = state.clone();
    let mut trained = Duration::ZERO;
    let mut loss_sum = 0.0;
    let (mut correct, mut examples) = (0, 0);
    let mut learning_rate = 0.0;
    let started = Instant::now();
    problem.begin_epoch(&mut state.parameters)?;
    trained += started.elapsed();
    let batches = problem.batches(state.epochs_done);
    thread::scope(|scope| {
        // Without room between the threads at most two batches are in memory: one is computed, one is read.
        let (sender, receiver) = mpsc::sync_channel(0);
        let reading = scope.spawn(move || {
            for batch in &batches {
                if sender.send(problem.load(batch)).is_err() {
                    break; // the loop has ended, so has the reason to read on
                }
            }
        });
        let mut started = Instant::now();
        for (step, batch) in receiver.into_iter().enumerate() {
            let progress = Progress {
                epoch: state.epochs_done,
                epochs: settings.epochs,
                step: state.epochs_done * problem.steps() + step,
                steps: settings.epochs * problem.steps(),
            };
            learning_rate = settings
                .schedule
                .learning_rate(settings.learning_rate, progress);
            let leaves = state.parameters.tracked();
            let batch = batch?;
            let outcome = problem.step(&leaves, Step { progress, batch })?;
            if !outcome.loss.is_finite() {
                return Err(P::Error::from(TrainError::LossNotFinite {
                    epoch: state.epochs_done + 1,
                    step: step + 1,
                }));
            }
            settings.optimizer.step(
                &mut state.parameters,
                &outcome.gradients,
                learning_rate,
                &mut state.optimizer,
            );
            problem.constrain(&mut state.parameters);
            loss_sum += f64::from(outcome.loss) * outcome.examples as f64;
            correct += outcome.correct;
            examples += outcome.examples;
            trained += started.elapsed();
            observer.step(progress, outcome.loss);
            started = Instant::now();
        }
        match reading.join() {
            Ok(()) => Ok(()),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
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
