//! `run.toml`: everything that decides what a run comes to.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::backbone::Activation;
use crate::data::{Split, Subset};
use crate::features::EncodingOptions;
use crate::model::{Model, ModelOptions};
use crate::prompt::coop::InitialContext;
use crate::prompt::{Method, MethodError, Recipe};

/// All settings of a run, resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
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
    pub method: Method,
    /// Where a context begins.
    pub initial: InitialContext,
    /// How it is learned.
    pub training: Recipe,
}

/// Which splits are learned from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LearnFrom {
    /// The training split.
    #[default]
    Train,
    /// The validation split as well, once it has served to choose settings by.
    TrainAndVal,
}

pub(super) fn test_split() -> Split {
    Split::Test
}

/// Where training settings come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecipeName {
    /// What the method's authors did.
    Published,
    /// What reaches about the same in a fraction of the time.
    #[default]
    Fast,
}

impl RecipeName {
    /// The recipe of this name.
    pub fn recipe(self, method: &Method, shots: Option<usize>) -> Recipe {
        match self {
            Self::Published => method.learn().published(shots),
            Self::Fast => method.learn().fast(shots),
        }
    }
}

impl Settings {
    /// A method on the embedded model with all classes and seed 1, trained by a recipe as it is.
    pub fn new(data: PathBuf, method: Method, shots: Option<usize>, recipe: RecipeName) -> Self {
        Self {
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
            training: recipe.recipe(&method, shots),
            method,
            initial: InitialContext::Random,
        }
    }

    /// A prompt that other code learned, taken from `checkpoint`. Recipe and beginning are the published ones: how it was
    /// learned in truth is not known.
    pub fn imported(checkpoint: PathBuf, data: Option<PathBuf>, method: Method) -> Self {
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

    /// Refuses settings that exclude each other or do not fit the model, before any picture is read.
    ///
    /// # Errors
    /// [`MethodError::Combination`], and what the method reports.
    pub fn check(&self, model: &Model) -> Result<(), MethodError> {
        let method = self.method.learn();
        method.check(model)?;
        if self.learn_from == LearnFrom::TrainAndVal {
            if self.measure_on != Split::Test {
                let problem = "what learns from the validation pictures cannot be measured on them: measure on the test split";
                return Err(MethodError::Combination(problem.into()));
            }
            if method.uses_validation() {
                let problem = "this method chooses its settings by the validation pictures, so it cannot learn from them: learn from train alone";
                return Err(MethodError::Combination(problem.into()));
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
