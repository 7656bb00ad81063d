//! A finished run, ready to be used.

use std::path::Path;

use burn::tensor::Device;

use super::{LearnError, RunError, RunFolder, Settings};
use crate::model::Model;
use crate::prompt::format::PromptFile;
use crate::prompt::{Method, MethodError, Prompt};

/// A prompt with the settings it was learned with.
#[derive(Debug)]
pub struct Learned {
    /// The settings of the run.
    pub settings: Settings,
    /// What was learned.
    pub file: PromptFile,
}

impl Learned {
    /// Reads a run that has a prompt.
    ///
    /// # Errors
    /// No run, no prompt yet, damaged files.
    pub fn open(run: &Path, device: &Device) -> Result<Self, LearnError> {
        let folder = RunFolder::open(run)?;
        let settings: Settings = folder.settings()?;
        if !folder.prompt_file().exists() {
            return Err(RunError::Unfinished { path: run.into() }.into());
        }
        let file = PromptFile::read(&folder.prompt_file(), device)?;
        Ok(Self { settings, file })
    }

    /// Makes sure that `model` is the one the prompt was learned with.
    ///
    /// # Errors
    /// Both fingerprints.
    pub fn check_model(&self, run: &Path, model: &Model) -> Result<(), LearnError> {
        let found = model.fingerprint()?;
        match found == self.file.fingerprint {
            true => Ok(()),
            false => Err(RunError::OtherModel {
                path: run.into(),
                learned_with: self.file.fingerprint.clone(),
                model: self.settings.model.clone(),
                found,
            }
            .into()),
        }
    }

    /// The classes it was learned for, K of them.
    ///
    /// # Errors
    /// It was imported without class names.
    pub fn class_names(&self, run: &Path) -> Result<&[String], RunError> {
        match self.file.class_names.is_empty() {
            false => Ok(&self.file.class_names),
            true => Err(RunError::NoClasses { path: run.into() }),
        }
    }

    /// What classifies into `class_names`.
    ///
    /// # Errors
    /// See [`Method::open`].
    pub fn prompt(
        &self,
        model: &Model,
        class_names: &[String],
    ) -> Result<Box<dyn Prompt>, MethodError> {
        Method::open(&self.file, model, class_names)
    }
}
