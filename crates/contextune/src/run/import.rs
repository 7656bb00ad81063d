//! A prompt that the official code learned becomes one of ours.

use std::fmt;
use std::path::{Path, PathBuf};

use super::any::AnyMethod;
use super::error::LearnError;
use crate::format::{DasslCheckpoint, DasslFamily, PromptFile};
use crate::method::MethodError;
use crate::method::text::cocoop;
use crate::method::text::coop::placeholders;
use crate::model::{Model, ModelError};
use crate::parameters::{ParameterError, elements_of};
use crate::task::{Classify, PromptError};
use crate::text::TextError;

/// Text towers by width, for those who have to find the right model (the published sizes of OpenAI and OpenCLIP).
const MODELS_BY_WIDTH: [(usize, &str); 5] = [
    (512, "RN50, RN101, ViT-B/32 or ViT-B/16"),
    (640, "RN50x4"),
    (768, "RN50x16 or ViT-L/14"),
    (1024, "RN50x64 or ViT-H/14"),
    (1280, "ViT-bigG/14"),
];
/// Share of its length that a frozen row may lose to rounding, bfloat16 included.
const ROUNDING: f64 = 0.01;

/// Why a checkpoint cannot be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Learned with another model.
    #[error(
        "{} was learned with a text tower of width {found}{}, this model's is {expected} wide{}: use the model that it was learned with",
        path.display(), known_models(*found), known_models(*expected)
    )]
    Width {
        /// The checkpoint.
        path: PathBuf,
        /// Width of its context vectors.
        found: usize,
        /// Width of the model's text tower.
        expected: usize,
    },
    /// A network that reads other image features.
    #[error(
        "{}: {name} has shape {found:?}, this model needs {expected:?}: use the model that it was learned with",
        path.display()
    )]
    MetaNet {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        name: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// What the model needs.
        expected: Vec<usize>,
    },
    /// Another number of class names than the checkpoint has classes.
    #[error(
        "{} was learned for {expected} classes, but there are {found} class names: give the names of those classes, in the order of their labels",
        path.display()
    )]
    Classes {
        /// The checkpoint.
        path: PathBuf,
        /// Its classes.
        expected: usize,
        /// Names given.
        found: usize,
    },
    /// The class names give no prompts for this model.
    #[error(transparent)]
    Method(#[from] MethodError),
    /// The tokenizer fails on a class name.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tensors do not make class features.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The tensors are not those of the method.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    /// The method cannot be kept.
    #[error(transparent)]
    Learned(#[from] LearnError),
}

/// " (RN50x4)", nothing for a width that no published model has.
fn known_models(width: usize) -> String {
    let known = MODELS_BY_WIDTH.iter().find(|(known, _)| *known == width);
    known.map_or_else(String::new, |(_, models)| format!(" ({models})"))
}

/// A sign that something given beside the checkpoint is not what it was learned with. The official code does not look.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportWarning {
    /// The embedding of the start token is another.
    OtherModel {
        /// The checkpoint.
        path: PathBuf,
    },
    /// The tokens behind the context of a class are others.
    OtherName {
        /// The checkpoint.
        path: PathBuf,
        /// The first such class, from 0.
        class: usize,
        /// The name given for it.
        name: String,
    },
}

impl fmt::Display for ImportWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherModel { path } => write!(
                f,
                "the start token in {} is not this model's: it was learned with another model of the same width, and is worth nothing with this one",
                path.display()
            ),
            Self::OtherName { path, class, name } => write!(
                f,
                "{} was learned with another text than {name:?} for class {}: are these its class names, in the order of the labels?",
                path.display(),
                class + 1
            ),
        }
    }
}

/// A checkpoint with what it does not say about itself.
#[derive(Clone, Copy, Debug)]
pub struct Import<'a> {
    /// Where the checkpoint lies.
    pub path: &'a Path,
    /// The checkpoint.
    pub checkpoint: &'a DasslCheckpoint,
    /// The model it was learned with.
    pub model: &'a Model,
    /// The method, with the length of the checkpoint's context.
    pub method: &'a AnyMethod,
    /// The K classes it was learned for; empty: not known.
    pub class_names: &'a [String],
}

impl Import<'_> {
    /// The prompt as we keep it, with the features of its classes.
    ///
    /// # Errors
    /// See [`ImportError`]: another model, another number of classes, class names that give no prompts.
    pub fn prompt_file(&self) -> Result<PromptFile, ImportError> {
        self.check_widths()?;
        let mut file = PromptFile {
            method: self.method.record()?,
            fingerprint: self.model.fingerprint()?,
            class_names: self.class_names.to_vec(),
            text_features: None,
            parameters: self.checkpoint.parameters.clone(),
        };
        if !self.class_names.is_empty() {
            self.check_number_of_classes()?;
            let predictor = self
                .method
                .predictor(self.model, &file, self.class_names)?
                .into::<Classify>(self.method)?;
            let features = predictor.prompt().stored_features(predictor.parameters())?;
            file.text_features = features
                .map(|features| elements_of("text_features", features))
                .transpose()?;
        }
        Ok(file)
    }

    fn check_widths(&self) -> Result<(), ImportError> {
        let text = self.model.text_config()?;
        if self.checkpoint.width != text.width {
            return Err(ImportError::Width {
                path: self.path.into(),
                found: self.checkpoint.width,
                expected: text.width,
            });
        }
        if self.checkpoint.family == DasslFamily::CoOp {
            return Ok(());
        }
        for (name, expected, _) in cocoop::meta_net(self.model)? {
            let found = self.checkpoint.parameters.require_any(name)?;
            if found != expected {
                return Err(ImportError::MetaNet {
                    path: self.path.into(),
                    name,
                    found: found.to_vec(),
                    expected,
                });
            }
        }
        Ok(())
    }

    fn check_number_of_classes(&self) -> Result<(), ImportError> {
        let found = self.class_names.len();
        match self.checkpoint.classes {
            Some(expected) if expected != found => Err(ImportError::Classes {
                path: self.path.into(),
                expected,
                found,
            }),
            _ => Ok(()),
        }
    }

    /// Compares the frozen rows that the checkpoint holds with those of this model and these class names. Call it for
    /// what [`prompt_file`](Self::prompt_file) takes.
    ///
    /// # Errors
    /// Class names that give no prompts.
    pub fn warning(&self) -> Result<Option<ImportWarning>, ImportError> {
        let text = self.model.text_tower()?;
        let width = text.config().width;
        let tokenizer = self.model.tokenizer()?;
        let embed = |ids: &[u32]| -> Vec<f32> { text.embed(ids).into_data().iter().collect() };
        if let Some(prefix) = &self.checkpoint.token_prefix {
            let start = embed(&[tokenizer.start_of_text()]); // [1, d]
            let same = prefix
                .get(..width)
                .is_some_and(|prefix| equal_but_for_rounding(prefix, &start));
            if !same {
                let path = self.path.into();
                return Ok(Some(ImportWarning::OtherModel { path }));
            }
        }
        let (Some(suffix), Some(layout), false) = (
            &self.checkpoint.token_suffix,
            self.method.context_layout(),
            self.class_names.is_empty(),
        ) else {
            return Ok(None);
        };
        let limit = text.config().context_length;
        let prompts = placeholders(&tokenizer, self.class_names, &layout, limit)?;
        let rows = (suffix.len() / self.class_names.len()).max(1);
        for (class, (prompt, found)) in prompts.iter().zip(suffix.chunks_exact(rows)).enumerate() {
            let expected = embed(&prompt.ids[1 + layout.length..]); // [name, full stop and end, d]
            let same = found
                .get(..expected.len())
                .is_some_and(|found| equal_but_for_rounding(found, &expected));
            if !same {
                return Ok(Some(ImportWarning::OtherName {
                    path: self.path.into(),
                    class,
                    name: self.class_names[class].clone(),
                }));
            }
        }
        Ok(None)
    }
}

/// Whether ‖a − b‖ is no more than what rounding leaves of ‖b‖.
fn equal_but_for_rounding(a: &[f32], b: &[f32]) -> bool {
    let square = |values: &mut dyn Iterator<Item = f32>| -> f64 {
        values.map(|value| f64::from(value).powi(2)).sum()
    };
    let difference = square(&mut a.iter().zip(b).map(|(a, b)| a - b));
    difference <= ROUNDING.powi(2) * square(&mut b.iter().copied())
}
