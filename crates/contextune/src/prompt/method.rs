//! The methods by name, and what each of them must be able to do.

use std::collections::HashMap;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::classification::TrainingViews;
use super::clip_adapter::ClipAdapterSettings;
use super::cocoop::CoCoOpSettings;
use super::coop::{ContextLayout, InitialContext};
use super::finetune::FinetuneSettings;
use super::format::{PromptFile, PromptFileError};
use super::image_encoder::ImageEncoderSettings;
use super::kgcoop::KgCoOpSettings;
use super::linear_probe::LinearProbeSettings;
use super::pixel::PixelSettings;
use super::prograd::ProGradSettings;
use super::reprogram::ReprogramSettings;
use super::taskres::TaskResSettings;
use super::text_tuning::{TextBiasSettings, TextTransformSettings};
use super::tip_adapter::{TipAdapterFSettings, TipAdapterSettings};
use super::vpt::VptSettings;
use super::zeroshot::ZeroShotSettings;
use super::{Prompt, zeroshot};
use crate::backbone::BackboneError;
use crate::features::{LabelledFeatures, Sees};
use crate::model::{Model, ModelError};
use crate::objective::label_map::LabelMapError;
use crate::text::TextError;
use crate::train::{FitSettings, Optimizer, Parameters, Schedule, TrainError};

/// A method with all that is needed to use what it learned.
///
/// One line here and one in `Method::learn` make a method known everywhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each says what it is where it is defined")]
pub enum Method {
    Zeroshot(ZeroShotSettings),
    LinearProbe(LinearProbeSettings),
    Coop(ContextLayout),
    Cocoop(CoCoOpSettings),
    Kgcoop(KgCoOpSettings),
    Prograd(ProGradSettings),
    ClipAdapter(ClipAdapterSettings),
    TipAdapter(TipAdapterSettings),
    TipAdapterF(TipAdapterFSettings),
    Taskres(TaskResSettings),
    TextTransform(TextTransformSettings),
    TextBias(TextBiasSettings),
    ImageEncoder(ImageEncoderSettings),
    Vpt(VptSettings),
    Pixel(PixelSettings),
    Reprogram(ReprogramSettings),
    Finetune(FinetuneSettings),
}

/// What every method can do.
pub trait Learn {
    /// Where learning begins: the prompt, and its parameters. A method without steps has learned already.
    ///
    /// # Errors
    /// Class names or an initialisation that do not fit the model.
    fn begin(&self, lesson: &Lesson<'_>) -> Result<Beginning, MethodError>;

    /// Refuses settings that exclude each other or do not fit the model, before any picture is read.
    ///
    /// # Errors
    /// [`MethodError::Combination`], and what keeps the method from this kind of model.
    fn check(&self, _model: &Model) -> Result<(), MethodError> {
        Ok(())
    }

    /// What is left to do after the last step.
    ///
    /// # Errors
    /// Whatever the prompt reports.
    fn finish(
        &self,
        _lesson: &Lesson<'_>,
        _prompt: &dyn Prompt,
        _parameters: &mut Parameters,
    ) -> Result<(), MethodError> {
        Ok(())
    }

    /// The prompt for using `parameters` again; `stored` are the class features `[K, D]` of these very classes that the
    /// prompt file holds, if it does.
    ///
    /// # Errors
    /// Class names that do not fit the model.
    fn open(
        &self,
        model: &Model,
        class_names: &[String],
        parameters: &Parameters,
        stored: Option<Tensor<2>>,
    ) -> Result<Box<dyn Prompt>, MethodError>;

    /// How the method's authors train it with so many pictures of each class; `None`: with all.
    fn published(&self, shots: Option<usize>) -> Recipe;

    /// The rates that the authors choose from on validation pictures, for their recipe; `None` where they choose none.
    fn published_grid(&self) -> Option<Grid> {
        None
    }

    /// What reaches about the same in a fraction of the time: unless the method knows better, as published but on the
    /// pictures as they are, which are encoded once instead of once an epoch.
    fn fast(&self, shots: Option<usize>) -> Recipe {
        Recipe {
            views: TrainingViews::Whole,
            ..self.published(shots)
        }
    }

    /// What it is given of a picture, in front of this model.
    fn sees(&self, _model: &Model) -> Sees {
        Sees::Features
    }

    /// What a person should know before it learns with this model.
    fn remark(&self, _model: &Model) -> Option<String> {
        None
    }

    /// About how much memory a step with so many pictures needs beside the model, in bytes; `None` where it is little.
    fn step_bytes(&self, _model: &Model, _pictures: usize) -> Option<u64> {
        None
    }

    /// Whether there is anything to learn at all.
    fn learns(&self) -> bool {
        true
    }

    /// Whether it chooses settings by validation pictures.
    fn uses_validation(&self) -> bool {
        false
    }

    /// How the learned context vectors stand in the prompts; `None` if the method has none.
    fn context_layout(&self) -> Option<ContextLayout> {
        None
    }

    /// Whether what was learned says something about other classes than it was learned for.
    fn takes_other_classes(&self) -> bool {
        true
    }
}

/// What a method learns from.
#[derive(Clone, Copy, Debug)]
pub struct Lesson<'a> {
    /// The frozen model.
    pub model: &'a Model,
    /// The classes, K of them.
    pub class_names: &'a [String],
    /// The training pictures in the views that the recipe asks for.
    pub train: &'a LabelledFeatures,
    /// Pictures to choose settings by, if the data set has any.
    pub val: Option<&'a LabelledFeatures>,
    /// Where a context begins.
    pub initial: &'a InitialContext,
    /// Seed of everything random.
    pub seed: u64,
}

/// Where learning begins.
#[derive(Debug)]
pub struct Beginning {
    /// What classifies.
    pub prompt: Box<dyn Prompt>,
    /// What it learns, and what it needs besides.
    pub parameters: Parameters,
}

/// How something is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Pictures in a step, at most; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<usize>,
    /// The smallest share of a picture's area in a random view, in percent.
    pub least_area: u8,
    /// Views of the training pictures.
    pub views: TrainingViews,
    /// Epochs, optimiser, rates.
    pub fit: FitSettings,
}

impl Recipe {
    /// CoOp's SGD at 0.002 with its schedule, on fresh views (Zhou et al. 2022, §4.1; KaiyangZhou/CoOp, configs).
    pub fn coop(epochs: usize, batch_size: usize) -> Self {
        Self {
            batch_size: Some(batch_size),
            least_area: 8,
            views: TrainingViews::Fresh,
            fit: FitSettings {
                epochs,
                learning_rate: 0.002,
                optimizer: Optimizer::Sgd {
                    momentum: 0.9,
                    weight_decay: 5e-4,
                },
                schedule: Schedule::CoOp { warmup: 1e-5 },
            },
        }
    }

    /// AdamW on all pictures at once: with cached features the step of a text prompt costs the same for one picture and for
    /// all, so few steps with exact gradients replace many with noisy ones. Settings chosen on two tasks of the icon
    /// benchmark.
    pub fn full_batch(shots: Option<usize>) -> Self {
        /// Steps for each picture of a class, and their bounds.
        const STEPS_A_SHOT: usize = 15;
        const STEPS: (usize, usize) = (30, 200);
        let steps = shots.map_or(STEPS.1, |shots| shots.saturating_mul(STEPS_A_SHOT));
        let steps = steps.clamp(STEPS.0, STEPS.1);
        Self {
            batch_size: None,
            least_area: 8,
            views: TrainingViews::Whole,
            fit: FitSettings {
                epochs: steps,
                learning_rate: 0.01,
                optimizer: Optimizer::adam_w(0.0),
                schedule: Schedule::WarmupCosine {
                    warmup_steps: steps / 10,
                },
            },
        }
    }

    /// Nothing but the pictures themselves, and no steps.
    pub fn without_steps() -> Self {
        Self {
            views: TrainingViews::Whole,
            ..Self::coop(0, 32)
        }
    }
}

/// Rates to choose from; every learning rate goes with every weight decay.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// Highest learning rates.
    pub learning_rates: Vec<f32>,
    /// Weight decays; empty: the recipe's.
    pub weight_decays: Vec<f32>,
}

impl Grid {
    /// The grid of VPT and its baselines (KMnP/vpt, tune_vtab.py) for these rates, which are given for 256 pictures in a step
    /// and used in proportion to the recipe's.
    pub fn visual(rates: &[f32], recipe: &Recipe) -> Self {
        let share = recipe
            .batch_size
            .map_or(1.0, |pictures| pictures as f32 / 256.0);
        Self {
            learning_rates: rates.iter().map(|rate| rate * share).collect(),
            weight_decays: vec![0.01, 0.001, 0.0001, 0.0],
        }
    }
}

/// Why a method cannot begin or be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MethodError {
    /// The model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A class name gives no valid prompt.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A prompt does not fit the tower.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// The classifier of hand-written words cannot be built.
    #[error(transparent)]
    ZeroShot(#[from] zeroshot::ZeroShotError),
    /// The learned tensors do not fit.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A file to begin from cannot be read.
    #[error(transparent)]
    File(#[from] PromptFileError),
    /// A tensor to begin from that does not fit.
    #[error("{name} in {} has shape {found:?}; this model, these classes and this layout need {expected:?}", path.display())]
    InitialShape {
        /// The file.
        path: std::path::PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// What is needed.
        expected: Vec<usize>,
    },
    /// A file to begin from that lacks a tensor.
    #[error("{} has no tensor {name}: it holds the weights of something else", path.display())]
    InitialMissing {
        /// The file.
        path: std::path::PathBuf,
        /// The tensor.
        name: String,
    },
    /// A file of weights to begin from cannot be read.
    #[error(transparent)]
    Weights(#[from] crate::checkpoint::Error),
    /// A number of words other than the context has vectors.
    #[error(
        "the words {words:?} are {found} vectors long, the context {expected}: leave one of them out"
    )]
    InitialWords {
        /// The words.
        words: String,
        /// Their vectors.
        found: usize,
        /// The context's.
        expected: usize,
    },
    /// A method that this version does not know, or whose settings are damaged.
    #[error("this version cannot use the method {method}: {problem}")]
    UnknownMethod {
        /// The method.
        method: String,
        /// What is wrong.
        problem: String,
    },
    /// What was learned says nothing of other classes.
    #[error(
        "what {method} learned holds for the classes it was learned for and no others: use it on data with the same classes, or learn a context that all classes share (coop without --class-specific, cocoop, kgcoop, prograd)"
    )]
    OtherClasses {
        /// The method.
        method: String,
    },
    /// Prompts that stand in a vision transformer, for another image tower.
    #[error(
        "visual prompts stand between the tokens of a vision transformer, and this model's image tower is none: use a ViT model, or pixel prompts"
    )]
    NeedsVisionTransformer,
    /// Settings that exclude each other.
    #[error("{0}")]
    Combination(String),
    /// Classes that cannot be mapped to the model's labels.
    #[error(transparent)]
    Labels(#[from] LabelMapError),
    /// The optimiser of a closed problem failed.
    #[error("the linear probe could not be fitted: {0}")]
    Solver(String),
}

impl Method {
    /// What the method can do.
    pub fn learn(&self) -> &dyn Learn {
        match self {
            Self::Zeroshot(method) => method,
            Self::LinearProbe(method) => method,
            Self::Coop(method) => method,
            Self::Cocoop(method) => method,
            Self::Kgcoop(method) => method,
            Self::Prograd(method) => method,
            Self::ClipAdapter(method) => method,
            Self::TipAdapter(method) => method,
            Self::TipAdapterF(method) => method,
            Self::Taskres(method) => method,
            Self::TextTransform(method) => method,
            Self::TextBias(method) => method,
            Self::ImageEncoder(method) => method,
            Self::Vpt(method) => method,
            Self::Pixel(method) => method,
            Self::Reprogram(method) => method,
            Self::Finetune(method) => method,
        }
    }

    /// As on the command line.
    pub fn name(&self) -> String {
        match serde_json::to_value(self) {
            Ok(Value::Object(mut fields)) => match fields.remove("name") {
                Some(Value::String(name)) => name,
                _ => unreachable!("a method is tagged with its name"),
            },
            _ => unreachable!("a method is an object"),
        }
    }

    /// The prompt of a file for these classes. Features that the file stores for them are used, so that no text is encoded.
    ///
    /// # Errors
    /// Other classes than the method can say something about, and what keeps it from being built.
    pub fn open(
        file: &PromptFile,
        model: &Model,
        class_names: &[String],
    ) -> Result<Box<dyn Prompt>, MethodError> {
        let same = file.class_names == class_names;
        let method = file.method.learn();
        if !same && !method.takes_other_classes() {
            return Err(MethodError::OtherClasses {
                method: file.method.name(),
            });
        }
        let stored = match same {
            true => file.stored_features(model.device()),
            false => None,
        };
        method.open(model, class_names, &file.parameters, stored)
    }

    /// The settings as a prompt file's metadata hold them: everything as JSON, except that a text which could not be taken
    /// for JSON stands there as it is.
    pub fn to_metadata(&self) -> HashMap<String, String> {
        let Ok(Value::Object(fields)) = serde_json::to_value(self) else {
            unreachable!("a method is an object")
        };
        fields
            .into_iter()
            .map(|(key, value)| match (key.as_str(), value) {
                ("name", Value::String(name)) => ("method".to_owned(), name),
                (_, Value::String(text)) if serde_json::from_str::<Value>(&text).is_err() => {
                    (key, text)
                }
                (_, value) => (key, value.to_string()),
            })
            .collect()
    }

    /// The method behind a prompt file's metadata; entries that are none of its settings do not matter.
    ///
    /// # Errors
    /// A method that is not known, settings that are missing or make no sense.
    pub fn from_metadata(metadata: &HashMap<String, String>) -> Result<Self, MethodError> {
        let fields = metadata
            .iter()
            .map(|(key, text)| match key.as_str() {
                "method" => ("name".to_owned(), Value::String(text.clone())),
                _ => {
                    let plain = || Value::String(text.clone());
                    let value = serde_json::from_str(text).unwrap_or_else(|_| plain());
                    (key.clone(), value)
                }
            })
            .collect();
        serde_json::from_value(Value::Object(fields)).map_err(|error| MethodError::UnknownMethod {
            method: metadata.get("method").cloned().unwrap_or_default(),
            problem: error.to_string(),
        })
    }
}
