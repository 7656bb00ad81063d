//! A pre-training run on the screen and in its folder.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use anyhow::Result;
use contextune::checkpoint::{self, Precision};
use contextune::data::Split;
use contextune::run::RunFolder;
use contextune::train::{EpochMetrics, Observer, Progress, TrainError, TrainingState};
use indicatif::ProgressBar;

use super::evaluator::Evaluator;
use super::settings::PretrainMetrics;
use crate::options::Context;

/// The trained model in the run folder, fp16.
const MODEL: &str = "model.safetensors";

/// Saves after every epoch, measures now and then.
pub struct Watch<'a> {
    pub folder: &'a RunFolder,
    pub metrics: Vec<PretrainMetrics>,
    pub evaluator: Evaluator<'a>,
    pub bar: ProgressBar,
    pub context: &'a Context,
}

impl Observer for Watch<'_> {
    fn step(&mut self, _progress: Progress, loss: f32) {
        self.bar.inc(1);
        self.bar.set_message(format!("loss {loss:.3}"));
    }

    fn epoch(
        &mut self,
        metrics: &EpochMetrics,
        state: &TrainingState,
    ) -> Result<ControlFlow<()>, TrainError> {
        self.after_epoch(metrics, state)
            .map_err(|error| TrainError::Observer(error.into()))?;
        Ok(match self.context.interrupt.is_wanted() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    }
}

impl Watch<'_> {
    fn after_epoch(&mut self, metrics: &EpochMetrics, state: &TrainingState) -> Result<()> {
        let settings = &self.evaluator.settings;
        let due = state.epochs_done.is_multiple_of(settings.evaluate_every);
        let val = match due || state.epochs_done == settings.fit.epochs {
            true => self.evaluator.retrieval(&state.parameters, Split::Val)?,
            false => None,
        };
        let line = PretrainMetrics {
            epoch: metrics.clone(),
            val,
        };
        let text = serde_json::to_string(&line)?;
        self.context.screen.remark(text);
        // A run killed between state and metrics repeats the epoch: its line is replaced.
        self.metrics.retain(|old| old.epoch.epoch < metrics.epoch);
        self.metrics.push(line);
        let path = self.folder.path().join(MODEL);
        checkpoint::write(
            &path,
            &settings.config,
            &settings.normalization,
            Precision::Half,
            &BTreeMap::new(),
            |name| {
                state
                    .parameters
                    .data(name)
                    .map_err(|_| checkpoint::Error::MissingTensor {
                        path: path.clone(),
                        name: name.to_owned(),
                    })
            },
        )?;
        self.folder.write_metrics(&self.metrics)?;
        self.folder.save_state(state)?;
        Ok(())
    }
}
