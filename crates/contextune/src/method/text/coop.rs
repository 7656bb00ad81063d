//! CoOp: context vectors in place of the words around a class name (Zhou et al. 2022, "Learning to Prompt for
//! Vision-Language Models", §3.2).

use std::ops::Range;

pub use crate::method::layout::{CONTEXT, ContextLayout, Position};
use burn::tensor::Tensor;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::architecture::ModelConfig;
use crate::backbone::{BackboneError, PreparedPrompts, PromptLayout, Row, TextTower};
use crate::method::{
    Beginning, Initialisation, Lesson, Method, MethodError, Needs, Recipe, SettingError,
};
use crate::model::Model;
use crate::parameters::{ExpectedTensor, Initial, Parameters, Size, read_tensor};
use crate::task::{ClassFeatures, Classify, LearnedClassifier, Prompt, PromptError, Task};
use crate::text::{Overlong, TextError, Tokenizer, class_words};

/// Standard deviation of randomly initialised context vectors.
pub const INITIAL_DEVIATION: f32 = 0.02;

/// A class prompt "X … X name." as tokens; the context vectors replace the X, or the first tokens of the words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placeholder {
    /// From start to end token.
    pub ids: Vec<u32>,
    /// How many tokens the class name has.
    pub name_length: usize,
}

/// The prompts of all classes, as the official code builds them.
///
/// # Errors
/// A prompt longer than `limit` tokens, or a tokenizer that joins the X.
pub fn placeholders(
    tokenizer: &Tokenizer,
    class_names: &[String],
    layout: &ContextLayout,
    limit: usize,
) -> Result<Vec<Placeholder>, TextError> {
    let context_length = layout.length;
    let context = match &layout.published_words {
        Some(words) => format!("{words} "),
        // More than the limit are refused below, however many more.
        None => "X ".repeat(context_length.min(limit)),
    };
    class_names
        .iter()
        .map(|name| {
            let name = class_words(name);
            let prompt = format!("{context}{name}.");
            let ids = tokenizer.tokenize(&prompt, limit, Overlong::Refuse);
            let ids = ids.map_err(|error| match error {
                TextError::TooLong { tokens, .. } => TextError::NoRoomForName {
                    name: name.clone(),
                    context_length,
                    // The text has no more X than the limit.
                    tokens: tokens + context_length.saturating_sub(limit),
                    limit,
                },
                other => other,
            })?;
            let Some(most) = ids.len().checked_sub(context_length + 2) else {
                return Err(TextError::Context {
                    text: prompt,
                    context_length,
                });
            };
            Ok(Placeholder {
                // Marks at the end of a name may become one token with the full stop: the name then has fewer.
                name_length: tokenizer.encode(&name)?.len().min(most),
                ids,
            })
        })
        .collect()
}

/// Returns the parameter [`CONTEXT`] in this layout as it begins: `[M, d]`, class-specific `[K, M, d]`; drawn from
/// N(0, 0.02²) unless the initialisation says otherwise.
///
/// # Errors
/// Words of another number of tokens, a file that cannot be read or whose tensor has another shape.
pub fn initial_context<T: Task>(
    lesson: &Lesson<'_, T>,
    layout: &ContextLayout,
) -> Result<Parameters, MethodError> {
    let text = lesson.model.text_tower()?;
    let width = text.config().width;
    let shape = layout.shape(lesson.class_names.len(), width);
    let vectors = shape.iter().product::<usize>() / width;
    let mut parameters = Parameters::default();
    let context = match lesson.initial {
        Initialisation::Random => {
            let random = &mut ChaCha8Rng::seed_from_u64(lesson.seed);
            Initial::Normal(INITIAL_DEVIATION).draw(vectors * width, random)
        }
        Initialisation::Words { words } => {
            let ids = lesson.model.tokenizer()?.encode(words)?;
            let first = ids.get(..layout.length).filter(|first| {
                vectors == first.len()
                    && (layout.published_words.is_some() || first.len() == ids.len())
            });
            let Some(first) = first else {
                return Err(MethodError::InitialWords {
                    words: words.clone(),
                    found: ids.len(),
                    expected: layout.length,
                });
            };
            let embeddings = text.embed(first); // [M, d]
            parameters.insert(CONTEXT, embeddings);
            return Ok(parameters);
        }
        Initialisation::File { path } => {
            let (values, found) = read_tensor(path, CONTEXT)?;
            if found != shape {
                return Err(MethodError::InitialShape {
                    path: path.clone(),
                    name: CONTEXT.to_owned(),
                    found,
                    expected: shape,
                });
            }
            values
        }
    };
    parameters.insert_data(CONTEXT, &shape, context, lesson.model.device());
    Ok(parameters)
}

impl Method for ContextLayout {
    const NAME: &'static str = "coop";

    type Task = Classify;

    fn needs(&self, _model: &ModelConfig) -> Needs {
        Needs::FEATURES_AND_WORDS
    }

    fn check(&self, model: &ModelConfig) -> Result<(), SettingError> {
        self.check_length(model)
    }

    fn tensors(&self, model: &Model, classes: Size) -> Result<Vec<ExpectedTensor>, MethodError> {
        Ok(vec![self.tensor(model, classes)?])
    }

    fn begin(&self, lesson: &Lesson<'_, Classify>) -> Result<Beginning<Classify>, MethodError> {
        Ok(Beginning {
            prompt: Box::new(CoOp::of_model(lesson.model, lesson.class_names, self)?),
            parameters: initial_context(lesson, self)?,
        })
    }

    fn open(
        &self,
        model: &Model,
        class_names: &[String],
        parameters: &Parameters,
        stored: Option<Tensor<2>>,
    ) -> Result<Box<dyn Prompt<Classify>>, MethodError> {
        let classifier = match stored {
            Some(features) => ClassFeatures::new(features, model.logit_scale()?),
            None => CoOp::of_model(model, class_names, self)?.classifier(parameters)?,
        };
        Ok(Box::new(classifier))
    }

    /// Epochs by pictures of each class: Zhou et al. 2022, §4.1.
    fn published(&self, shots: Option<usize>) -> Recipe {
        let epochs = match shots {
            Some(1) => 50,
            Some(2..=4) => 100,
            _ => 200,
        };
        Recipe::coop(epochs, 32)
    }

    fn fast(&self, shots: Option<usize>) -> Recipe {
        Recipe::full_batch(shots)
    }

    fn context_layout(&self) -> Option<ContextLayout> {
        Some(self.clone())
    }

    fn takes_other_classes(&self) -> bool {
        !self.class_specific
    }
}

/// A prompt for each class, of context vectors and its name.
#[derive(Debug)]
pub struct CoOp {
    text: TextTower,
    prompts: PreparedPrompts,
    layout: ContextLayout,
    classes: usize,
    logit_scale: Tensor<1>,
}

impl CoOp {
    /// Lays out one prompt for each class.
    ///
    /// # Errors
    /// A prompt too long for the tower.
    pub fn new(
        text: &TextTower,
        logit_scale: Tensor<1>,
        placeholders: &[Placeholder],
        layout: &ContextLayout,
    ) -> Result<Self, BackboneError> {
        Ok(Self {
            prompts: text.prepare(&prompt_layout(placeholders, layout))?,
            text: text.clone(),
            layout: layout.clone(),
            classes: placeholders.len(),
            logit_scale,
        })
    }

    /// The same for class names, with the model's own tokenizer.
    ///
    /// # Errors
    /// A class name that gives no prompt for this tower.
    pub fn of_model(
        model: &Model,
        class_names: &[String],
        layout: &ContextLayout,
    ) -> Result<Self, MethodError> {
        let text = model.text_tower()?;
        let limit = text.config().context_length;
        let placeholders = placeholders(&*model.tokenizer()?, class_names, layout, limit)?;
        Ok(Self::new(
            &text,
            model.logit_scale()?,
            &placeholders,
            layout,
        )?)
    }

    /// Logarithm of the factor on the cosine, `[1]`.
    pub fn logit_scale(&self) -> Tensor<1> {
        self.logit_scale.clone()
    }

    /// Returns the features of the class prompts, `[K, D]`, not of unit length.
    ///
    /// # Errors
    /// No context, or one of another shape.
    pub fn text_features(&self, parameters: &Parameters) -> Result<Tensor<2>, PromptError> {
        let width = self.text.config().width;
        let shape = self.layout.shape(self.classes, width);
        parameters.require(CONTEXT, &shape)?;
        let vectors: usize = shape.iter().product::<usize>() / width;
        let context = match self.layout.class_specific {
            false => parameters.get::<2>(CONTEXT)?,
            true => parameters.get::<3>(CONTEXT)?.reshape([vectors, width]), // [K · M, d]
        };
        Ok(self.text.encode(&self.prompts, Some(context)))
    }
}

/// One prompt for each class; a context that all share stands once.
pub fn prompt_layout(placeholders: &[Placeholder], layout: &ContextLayout) -> PromptLayout {
    let prompts: Vec<Vec<Row>> = placeholders
        .iter()
        .enumerate()
        .map(|(class, placeholder)| {
            let first = match layout.class_specific {
                true => class * layout.length,
                false => 0,
            };
            prompt_rows(placeholder, layout.length, layout.position, first)
        })
        .collect();
    PromptLayout::new(&prompts)
}

/// The rows of one class's prompt, from start to end token; its context vectors are those from `first` on in the learned
/// table.
pub(super) fn prompt_rows(
    placeholder: &Placeholder,
    length: usize,
    position: Position,
    first: usize,
) -> Vec<Row> {
    let (start, rest) = placeholder.ids.split_at(1);
    let (name, end) = rest[length..].split_at(placeholder.name_length);
    let tokens = |ids: &[u32]| ids.iter().map(|&id| Row::Token(id)).collect::<Vec<_>>();
    let context = |vectors: Range<usize>| {
        vectors
            .map(|vector| Row::Learned(first + vector))
            .collect::<Vec<_>>()
    };
    let middle = match position {
        Position::End => [context(0..length), tokens(name)].concat(),
        Position::Middle => {
            let half = length / 2;
            [context(0..half), tokens(name), context(half..length)].concat()
        }
        Position::Front => [tokens(name), context(0..length)].concat(),
    };
    [tokens(start), middle, tokens(end)].concat()
}

impl LearnedClassifier for CoOp {
    fn classifier(&self, parameters: &Parameters) -> Result<ClassFeatures, PromptError> {
        let features = self.text_features(parameters)?; // [K, D]
        Ok(ClassFeatures::new(features, self.logit_scale()))
    }
}
