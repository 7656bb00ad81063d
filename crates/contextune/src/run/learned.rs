//! A finished run, ready to be used.

use std::path::Path;

use burn::tensor::Device;

use super::any::{AnyMethod, AnyPredictor};
use super::error::LearnError;
use super::folder::{RunError, RunFolder};
use super::settings::Settings;
use crate::format::{PromptFile, PromptFileError};
use crate::method::MethodError;
use crate::model::Model;
use crate::task::{Predictor, Task};

/// A prompt with the settings it was learned with.
#[derive(Debug)]
pub struct Learned {
    /// Where it lies.
    pub folder: RunFolder,
    /// The settings of the run.
    pub settings: Settings,
    /// What was learned.
    pub file: PromptFile,
}

impl Learned {
    /// Reads a run that has a prompt.
    ///
    /// # Errors
    /// No run, no prompt yet, damaged files, a prompt of another method than the settings say.
    pub fn open(run: &Path, device: &Device) -> Result<Self, LearnError> {
        let folder = RunFolder::open(run)?;
        let settings: Settings = folder.run_settings()?;
        if !folder.prompt_file().exists() {
            return Err(RunError::Unfinished { path: run.into() }.into());
        }
        let file = PromptFile::read(&folder.prompt_file(), device)?;
        let learned = Self {
            folder,
            settings,
            file,
        };
        let method = AnyMethod::from_record(&learned.file.method);
        match method.map_err(|error| learned.damaged(error.to_string()))? {
            method if method == learned.settings.method => Ok(learned),
            method => Err(learned.damaged(format!(
                "it was learned by {} with other settings than the run's, whose method is {}",
                method.name(),
                learned.settings.method.name()
            ))),
        }
    }

    /// Returns the method that learned it.
    pub fn method(&self) -> &AnyMethod {
        &self.settings.method
    }

    /// Checks that `model` is the one the prompt was learned with, and that the prompt file holds what its method learns with it.
    ///
    /// # Errors
    /// Both fingerprints; the first tensor or setting that is not what it should be.
    pub fn check_model(&self, model: &Model) -> Result<(), LearnError> {
        let found = model.fingerprint()?;
        if found != self.file.fingerprint {
            return Err(RunError::OtherModel {
                path: self.folder.path().into(),
                learned_with: self.file.fingerprint.clone(),
                model: self.settings.model.clone(),
                found,
            }
            .into());
        }
        let checked = self.method().check_file(model, &self.file);
        checked.map_err(|error| self.in_file(error))
    }

    /// Returns the classes it was learned for, K of them.
    ///
    /// # Errors
    /// It was imported without class names.
    pub fn class_names(&self) -> Result<&[String], RunError> {
        match self.file.class_names.is_empty() {
            false => Ok(&self.file.class_names),
            true => Err(RunError::NoClasses {
                path: self.folder.path().into(),
            }),
        }
    }

    /// Returns what answers with `class_names`, whatever the task.
    ///
    /// # Errors
    /// A prompt file whose tensors or settings do not fit method, model and classes; classes that the method says nothing
    /// about.
    pub fn any_predictor(
        &self,
        model: &Model,
        class_names: &[String],
    ) -> Result<AnyPredictor, LearnError> {
        let predictor = self.method().predictor(model, &self.file, class_names);
        predictor.map_err(|error| self.in_file(error))
    }

    /// Returns what answers with `class_names`, for one task.
    ///
    /// # Errors
    /// As [`Self::any_predictor`], and a method of another task.
    pub fn predictor<T: Task>(
        &self,
        model: &Model,
        class_names: &[String],
    ) -> Result<Predictor<T>, LearnError> {
        let predictor = self.any_predictor(model, class_names)?;
        Ok(predictor.into(self.method())?)
    }

    /// What is wrong with tensors or settings is wrong with the file.
    fn in_file(&self, error: MethodError) -> LearnError {
        match error {
            MethodError::Parameters(error) => self.damaged(error.to_string()),
            MethodError::Setting(error) => self.damaged(error.to_string()),
            error => error.into(),
        }
    }

    fn damaged(&self, problem: String) -> LearnError {
        PromptFileError::NotAPrompt {
            path: self.folder.prompt_file(),
            problem,
        }
        .into()
    }
}
