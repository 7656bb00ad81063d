//! A finished run, ready to be used.

use std::path::Path;

use anyhow::{Result, bail};
use contextune::model::Model;
use contextune::prompt::class_features::class_features;
use contextune::prompt::format::PromptFile;
use contextune::run::RunFolder;

use crate::commands::train::{Settings, values};
use crate::options::Context;

/// A prompt with the model it was learned for.
#[derive(Debug)]
pub struct Learned {
    /// The settings of the run.
    pub settings: Settings,
    /// The prompt.
    pub prompt: PromptFile,
    /// The model.
    pub model: Model,
}

/// Opens a run that has a prompt, and makes sure that the model is the one it was learned with.
pub fn open(run: &Path, context: &Context) -> Result<Learned> {
    let folder = RunFolder::open(run)?;
    let settings: Settings = folder.settings()?;
    if !folder.prompt_file().exists() {
        bail!(
            "{} has no prompt yet: finish it with `contextune resume {}`",
            run.display(),
            run.display()
        );
    }
    let prompt = PromptFile::read(&folder.prompt_file(), &context.device)?;
    let model = settings.model_arguments().open(context)?;
    let found = model.fingerprint()?;
    if found != prompt.fingerprint {
        bail!(
            "the prompt in {} was learned with another model: its fingerprint is {:.12}…, that of {} is {found:.12}…",
            run.display(),
            prompt.fingerprint,
            settings.model.as_deref().unwrap_or("the embedded model")
        );
    }
    Ok(Learned {
        settings,
        prompt,
        model,
    })
}

impl Learned {
    /// Makes the prompt one for these classes; features that are stored for them are kept.
    pub fn use_classes(&mut self, class_names: &[String]) -> Result<()> {
        if self.prompt.class_names != class_names || self.prompt.text_features.is_none() {
            let features = class_features(&self.prompt, &self.model, class_names)?;
            self.prompt.text_features = Some(values(features)?);
            self.prompt.class_names = class_names.to_vec();
        }
        Ok(())
    }
}
