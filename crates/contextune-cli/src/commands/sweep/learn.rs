//! Doing the runs that are missing.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use contextune::data::Split;
use contextune::input::{EncodingWatcher, InputKind, Views};
use contextune::run::{self, LearnError, RunFolder, RunWatcher};
use contextune::task::{Classify, Task as _, TaskDataset as _};
use contextune::train::{EpochMetrics, Progress};

use super::Sweep;
use super::job::Job;
use crate::commands::report;
use crate::interrupt::EXIT_CODE;
use crate::options::Context;
use crate::watch::Watch;

/// What several runs promise when they are stopped.
const AFTER_THESE_EPOCHS: &str = "stopping after the epochs that are being learned; Ctrl-C again stops at once: either way the same command goes on";

/// From this width of the text tower on, a step keeps all cores busy by itself; below it, runs share the cores.
const WIDTH_OF_LARGE_TOWERS: usize = 512;

/// Encodes what `missing` runs need, and does them.
pub fn learn_all(sweep: &Sweep<'_>, missing: &[&Job]) -> Result<()> {
    encode(sweep, missing)?;
    learn(sweep, missing)
}

/// Encodes what the missing runs need, with all cores; afterwards every run finds it in the cache.
fn encode(sweep: &Sweep<'_>, missing: &[&Job]) -> Result<()> {
    let Sweep {
        datasets,
        model,
        context,
        ..
    } = sweep;
    if context.cache.is_none() {
        return Ok(());
    }
    let watch = Watch::new(context);
    let mut whole = BTreeSet::new();
    for job in missing {
        let settings = &job.settings;
        let of_features = settings.method.needs(model.config()).input == InputKind::Features;
        // Pages say what words come to, whatever the method is given.
        if !of_features && (model.config().text.is_none() || job.may_diverge) {
            continue;
        }
        let dataset = &datasets[&job.data];
        let encoder = run::feature_encoder(settings, model, context.cache.clone())?;
        if whole.insert(&job.data) {
            for split in [Split::Test, Split::Val] {
                let (inputs, _) = Classify::examples(dataset, split);
                if !inputs.is_empty() {
                    encoder.inputs(dataset.place(), &inputs, Views::Whole, &watch)?;
                }
            }
        }
        if of_features && settings.method.learns() {
            run::encode_training(settings, dataset, &encoder, &watch)?;
        }
    }
    Ok(())
}

/// Does the missing runs, several at a time where one leaves cores idle.
fn learn(sweep: &Sweep<'_>, missing: &[&Job]) -> Result<()> {
    let Sweep { model, context, .. } = sweep;
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
    let _gentle = context.interrupt.gentle(AFTER_THESE_EPOCHS);
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
                        false => pool.install(|| learn_one(sweep, job)),
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

fn learn_one(sweep: &Sweep<'_>, job: &Job) -> Result<()> {
    let Sweep {
        datasets,
        model,
        context,
        ..
    } = sweep;
    let folder = match job.folder.exists() {
        true => RunFolder::open(&job.folder)?,
        false => {
            let folder = RunFolder::create(&job.folder, &job.settings, false)?;
            folder.write_command(&job.command)?;
            folder
        }
    };
    let encoder = run::encoder(&job.settings, model, context.cache.clone())?;
    let dataset = &datasets[&job.data];
    let watch = Quiet { context };
    match run::learn(&job.settings, dataset, model, &encoder, &folder, &watch) {
        Ok(_) if job.may_diverge => Ok(()), // one of many, and soon forgotten
        Ok(outcome) => {
            report::write(
                &folder,
                outcome.measured.as_ref(),
                model,
                dataset,
                context,
                &watch,
            );
            Ok(())
        }
        Err(error) if error.is_divergence() && job.may_diverge => {
            job.write_diverged(&folder, &error.to_string())
        }
        Err(LearnError::Stopped { .. }) => Ok(()),
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
    fn begin(&self) {}

    fn step(&self, _progress: Progress, _loss: f32) {}

    fn epoch(&self, _metrics: &EpochMetrics, _epochs: usize) -> ControlFlow<()> {
        match self.context.interrupt.is_wanted() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}
