//! `run.toml`: everything that decides what a run comes to.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::any::AnyMethod;
use super::folder::{RunError, RunFolder};
use crate::architecture::Activation;
use crate::data::{LearnFrom, Sampling, Split, Subset};
use crate::input::EncodingOptions;
use crate::method::{Initialisation, MethodError, Recipe, RecipeName, SettingError};
use crate::model::{Model, ModelOptions};
use crate::task::TrainingViews;
use crate::train::{Optimizer, Schedule};

/// What this version writes, and the newest that it reads. Folders of 0.1.0 say nothing, which means 0.
pub const RUN_FORMAT: u32 = 1;
/// More epochs and views than any machine gets through.
const MOST_EPOCHS: usize = 10_000_000;
const MOST_VIEWS: usize = 1_000_000;

/// All settings of a run, resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Version of the folder's format.
    #[serde(default)]
    pub format_version: u32,
    /// The model; absent: the embedded one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The activation that the user decided on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// The data set; absent: an imported prompt that came without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// The checkpoint of other code that the prompt was taken from; absent: it was learned here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<PathBuf>,
    /// Training pictures of each class; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shots: Option<usize>,
    /// Pictures of all classes together, four fifths to learn from and one to choose by; absent: as the data set has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub examples: Option<usize>,
    /// Which splits are learned from.
    #[serde(default)]
    pub learn_from: LearnFrom,
    /// The split that the result is measured on.
    #[serde(default = "test_split")]
    pub measure_on: Split,
    /// Seed of everything random.
    pub seed: u64,
    /// Seed of the split of a data set that has none; absent: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_seed: Option<u64>,
    /// Which classes.
    pub subset: Subset,
    /// Whether EXIF orientation is honoured.
    pub exif: bool,
    /// Whether an unreadable picture stops the run.
    pub strict: bool,
    /// Where the training settings come from.
    pub recipe: RecipeName,
    /// Training settings that differ from the recipe's, by name.
    pub changed: Vec<String>,
    /// What is learned.
    pub method: AnyMethod,
    /// Where learning begins.
    pub initial: Initialisation,
    /// How it is learned.
    pub training: Recipe,
}

pub(super) fn test_split() -> Split {
    Split::Test
}

impl Settings {
    /// A method on the embedded model with all classes and seed 1, trained by a recipe as it is.
    pub fn new(
        data: PathBuf,
        method: impl Into<AnyMethod>,
        shots: Option<usize>,
        recipe: RecipeName,
    ) -> Self {
        let method = method.into();
        Self {
            format_version: RUN_FORMAT,
            model: None,
            activation: None,
            data: Some(data),
            imported: None,
            shots,
            examples: None,
            learn_from: LearnFrom::Train,
            measure_on: Split::Test,
            seed: 1,
            split_seed: None,
            subset: Subset::All,
            exif: false,
            strict: false,
            recipe,
            changed: Vec::new(),
            training: method.recipe(recipe, shots),
            method,
            initial: Initialisation::Random,
        }
    }

    /// A prompt that other code learned, taken from `checkpoint`. Recipe and beginning are the published ones: how it was
    /// learned in truth is not known.
    pub fn imported(
        checkpoint: PathBuf,
        data: Option<PathBuf>,
        method: impl Into<AnyMethod>,
    ) -> Self {
        Self {
            data,
            imported: Some(checkpoint),
            ..Self::new(PathBuf::new(), method, None, RecipeName::Published)
        }
    }

    /// The seed to open the data set with.
    pub fn split_seed(&self) -> u64 {
        self.split_seed.unwrap_or(self.seed)
    }

    /// Returns what of the data is learned from.
    pub fn sampling(&self) -> Sampling {
        Sampling {
            shots: self.shots,
            examples: self.examples,
            learn_from: self.learn_from,
            subset: self.subset,
            seed: self.seed,
        }
    }

    /// Refuses settings that no run can have: a file may say anything.
    ///
    /// # Errors
    /// The setting and what is wrong with it.
    pub fn check_values(&self) -> Result<(), SettingError> {
        let refuse = |setting, problem: &str| Err(SettingError::new(setting, problem));
        let Recipe {
            batch_size,
            least_area,
            views,
            fit,
        } = &self.training;
        if self.format_version > RUN_FORMAT {
            return refuse(
                "format-version",
                "is that of a newer version of this program: update it",
            );
        }
        if self.shots == Some(0) {
            return refuse(
                "shots",
                "is 0; at least one example of each class is needed",
            );
        }
        if self.examples.is_some_and(|examples| examples < 2) {
            return refuse(
                "examples",
                "is the number of examples to learn from and to choose by: 2 at least",
            );
        }
        if *batch_size == Some(0) {
            return refuse("batch-size", "is 0; a step has at least one example");
        }
        if !(1..=100).contains(least_area) {
            return refuse("least-area", "is a share of a picture in percent: 1 to 100");
        }
        if let TrainingViews::Drawn { count } | TrainingViews::All { count } = views
            && !(1..=MOST_VIEWS).contains(count)
        {
            return refuse("views", "are 1 to 1,000,000 of each picture");
        }
        if fit.epochs > MOST_EPOCHS {
            return refuse("epochs", "are at most 10,000,000");
        }
        if fit.epochs > 0 && self.method.published(self.shots).fit.epochs == 0 {
            return refuse(
                "epochs",
                "is for methods that learn step by step; this one does not",
            );
        }
        if !(fit.learning_rate >= 0.0 && fit.learning_rate.is_finite()) {
            return refuse("lr", "is a finite number from 0 on");
        }
        check_optimizer(&fit.optimizer)?;
        match fit.schedule {
            Schedule::CoOp { warmup } if !warmup.is_finite() => {
                refuse("schedule", "warms up at a rate that is a finite number")
            }
            _ => Ok(()),
        }
    }

    /// Refuses settings that exclude each other or do not fit the model, before any example is read.
    ///
    /// # Errors
    /// The setting and what is wrong with it, and what the method needs of the model and does not find.
    pub fn check(&self, model: &Model) -> Result<(), MethodError> {
        self.check_values()?;
        self.method.check(model.config())?;
        self.method.needs(model.config()).check(model)?;
        if self.learn_from == LearnFrom::TrainAndVal {
            let refuse = |setting, problem: &str| Err(SettingError::new(setting, problem).into());
            if self.measure_on != Split::Test {
                return refuse(
                    "measure-on",
                    "is val, and what learns from the validation pictures cannot be measured on them: measure on the test split",
                );
            }
            if self.method.uses_validation() {
                return refuse(
                    "learn-from",
                    "is train-and-val, but this method chooses its settings by the validation pictures: learn from train alone",
                );
            }
        }
        Ok(())
    }

    /// The recipe as results name it: one that was changed is never called as it was.
    pub fn recipe_name(&self) -> String {
        if self.imported.is_some() {
            return "imported".into(); // no one here knows how it was trained
        }
        let name = match self.recipe {
            RecipeName::Published => "published",
            RecipeName::Fast => "fast",
        };
        match self.changed.is_empty() {
            true => name.into(),
            false => format!("{name}, other {}", self.changed.join(", ")),
        }
    }

    /// How the model is opened.
    pub fn model_options(&self) -> ModelOptions {
        ModelOptions {
            activation: self.activation,
            normalization: None,
        }
    }

    /// How pictures are read; features are kept below `cache`.
    pub fn encoding(&self, cache: Option<PathBuf>) -> EncodingOptions {
        EncodingOptions {
            honour_exif: self.exif,
            strict: self.strict,
            cache,
        }
    }
}

impl RunFolder {
    /// Returns the settings of a run that learned a prompt, once they are checked to be some that a run can have.
    ///
    /// # Errors
    /// A file that cannot be read or says what no run can be.
    pub fn run_settings(&self) -> Result<Settings, RunError> {
        let settings: Settings = self.settings()?;
        match settings.check_values() {
            Ok(()) => Ok(settings),
            Err(error) => Err(self.damaged_settings(error)),
        }
    }
}

/// Refuses constants that no optimiser has.
fn check_optimizer(optimizer: &Optimizer) -> Result<(), SettingError> {
    let is_share = |value: f32| (0.0..=1.0).contains(&value);
    let is_finite = |value: f32| value >= 0.0 && value.is_finite();
    let (shares, others) = match *optimizer {
        Optimizer::Sgd {
            momentum,
            weight_decay,
        } => ([momentum, momentum], [weight_decay, 0.0]),
        Optimizer::Adam {
            betas,
            epsilon,
            weight_decay,
        }
        | Optimizer::AdamW {
            betas,
            epsilon,
            weight_decay,
        } => (betas, [epsilon, weight_decay]),
    };
    match shares.into_iter().all(is_share) && others.into_iter().all(is_finite) {
        true => Ok(()),
        false => Err(SettingError::new(
            "optimizer",
            "has a momentum or moments from 0 to 1, and a weight decay that is a finite number from 0 on",
        )),
    }
}
