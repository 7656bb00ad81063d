//! `contextune pretrain`: contrastive training of a small CLIP on captioned pictures.

mod arguments;
mod evaluator;
mod initial;
mod pictures;
mod settings;
mod teachers;
mod watch;

use std::sync::Arc;

use anyhow::{Result, bail};
use contextune::backbone::PixelNormalisation;
use contextune::checkpoint::Normalization;
use contextune::data::Split;
use contextune::image::RandomResizedCrop;
use contextune::pretrain::{Pretraining, PretrainingSettings};
use contextune::run::RunFolder;
use contextune::text::Tokenizer;
use contextune::train::{Problem as _, Schedule, TrainingState, fit};

use self::evaluator::Evaluator;
use self::initial::{initial_parameters, model_elements};
use self::pictures::load_pictures;
use self::settings::{PretrainResult, Settings};
use self::teachers::load_teachers;
use self::watch::Watch;
use crate::examples;
use crate::interrupt::{AFTER_THIS_EPOCH, Stopped};
use crate::options::Context;
use crate::output::out;

pub use self::arguments::Arguments;
pub use self::settings::METHOD;

/// Starts a run.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    let settings = arguments.settings(&context.device)?;
    train(settings, context, |settings| {
        Ok(RunFolder::create(
            &arguments.out,
            settings,
            arguments.force,
        )?)
    })
}

/// Trains from the last saved state in the folder, or from the beginning. The folder is asked for when everything else
/// was read and found good.
pub fn train(
    mut settings: Settings,
    context: &Context,
    folder: impl FnOnce(&Settings) -> Result<RunFolder>,
) -> Result<()> {
    let dataset = examples::open(&settings.data, settings.seed, context)?;
    let text = settings.text_config()?;
    let tokenizer = Arc::new(Tokenizer::clip(text.vocabulary_size)?);
    let bar = context.screen.bar("decode", dataset.train.len());
    let pictures = load_pictures(&dataset, &|| bar.inc(1));
    bar.finish_and_clear();
    let pictures = pictures?;
    let remark = |text| context.screen.remark(text);
    let distillation = load_teachers(&settings, &dataset, &tokenizer, &context.device, remark)?;
    let teacher_width = distillation
        .as_ref()
        .and_then(|teachers| teachers.images.as_ref())
        .map(|teacher| teacher.targets.dims()[1]);
    let Normalization { mean, std } = settings.normalization;
    let normalisation = PixelNormalisation::new(mean, std, &context.device);
    let evaluator = Evaluator {
        settings: settings.clone(),
        dataset: &dataset,
        tokenizer: Arc::clone(&tokenizer),
        normalisation: normalisation.clone(),
        device: context.device.clone(),
    };
    let task = Pretraining::new(
        PretrainingSettings {
            config: settings.config.clone(),
            text: text.clone(),
            normalisation,
            tokenizer,
            views: RandomResizedCrop {
                scale: (0.5, 1.0),
                ..RandomResizedCrop::default()
            },
            patch_dropping: settings.patch_dropping,
            distillation,
            batch_size: settings.batch_size,
            seed: settings.seed,
            device: context.device.clone(),
        },
        pictures,
    );
    let steps = task.steps();
    if steps == 0 {
        bail!(
            "{} has fewer training names than one batch of {}: lower --batch-size",
            settings.data.display(),
            settings.batch_size
        );
    }
    settings.fit.schedule = Schedule::WarmupCosine {
        warmup_steps: settings.warmup_epochs * steps,
    };
    let folder = folder(&settings)?;
    let mut state = match folder.state(&context.device)? {
        Some(state) => state,
        None => TrainingState::new(initial_parameters(
            &settings,
            teacher_width,
            &context.device,
        )?),
    };
    let mut watch = Watch {
        folder: &folder,
        metrics: folder.metrics()?,
        evaluator,
        bar: context.screen.bar("pretrain", settings.fit.epochs * steps),
        context,
    };
    watch.bar.set_position((state.epochs_done * steps) as u64);
    let gentle = context.interrupt.gentle(AFTER_THIS_EPOCH);
    fit(&task, &settings.fit, &mut state, &mut watch)?;
    drop(gentle);
    watch.bar.finish_and_clear();
    Stopped::check(folder.path(), state.epochs_done, settings.fit.epochs)?;

    let train_seconds = watch.metrics.iter().map(|line| line.epoch.seconds).sum();
    let result = PretrainResult {
        method: METHOD.into(),
        parameters: model_elements(&state.parameters),
        train_seconds,
        val: watch.evaluator.retrieval(&state.parameters, Split::Val)?,
        test: watch.evaluator.retrieval(&state.parameters, Split::Test)?,
    };
    folder.finish(&result)?;
    out!("{}", serde_json::to_string_pretty(&result)?);
    Ok(())
}
