//! CoCoOp: a context that a small network shifts by what is on the picture (Zhou et al. 2022, "Conditional Prompt Learning
//! for Vision-Language Models", §3).
//!
//! For each picture the rows `[start][ctx + π(x)]` are encoded once, and the names of all classes below them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Tensor, activation};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::coop::{self, CONTEXT, ContextLayout, Placeholder, Position, initial_context};
use crate::architecture::ModelConfig;
use crate::backbone::{BackboneError, PreparedPrompts, PromptLayout, Row, TextTower};
use crate::input::Inputs;
use crate::method::{
    Beginning, Initialisation, Lesson, Method, MethodError, Needs, Recipe, SettingError,
};
use crate::model::{Model, ModelError};
use crate::objective::similarity::normalise;
use crate::parameters::{ExpectedTensor, Initial, Parameters, Size, read_tensor};
use crate::task::{Classify, Prompt, PromptError};

/// The official names of the network's parameters, with their place in it.
const WEIGHT_1: &str = "meta_net.linear1.weight";
const BIAS_1: &str = "meta_net.linear1.bias";
const WEIGHT_2: &str = "meta_net.linear2.weight";
const BIAS_2: &str = "meta_net.linear2.bias";
/// All of them.
pub(crate) const META_NET: [&str; 4] = [WEIGHT_1, BIAS_1, WEIGHT_2, BIAS_2];
/// The network's hidden layer is so many times narrower than an image feature.
const REDUCTION: usize = 16;
/// Rows of prompts that are computed at once when nothing is learned: bounds the memory.
const ROWS_AT_ONCE: usize = 16_384;

/// A context that depends on the picture; the class name stands at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoCoOpSettings {
    /// Context vectors, M.
    pub context_length: usize,
    /// See [`ContextLayout::published_words`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_words: Option<String>,
}

impl CoCoOpSettings {
    fn layout(&self) -> ContextLayout {
        ContextLayout {
            length: self.context_length,
            class_specific: false,
            position: Position::End,
            published_words: self.published_words.clone(),
        }
    }
}

impl Method for CoCoOpSettings {
    const NAME: &'static str = "cocoop";

    type Task = Classify;

    fn needs(&self, _model: &ModelConfig) -> Needs {
        Needs::FEATURES_AND_WORDS
    }

    fn check(&self, model: &ModelConfig) -> Result<(), SettingError> {
        self.layout().check_length(model)
    }

    fn tensors(&self, model: &Model, classes: Size) -> Result<Vec<ExpectedTensor>, MethodError> {
        let mut table = vec![self.layout().tensor(model, classes)?];
        for (name, shape, _) in meta_net(model)? {
            table.push(ExpectedTensor::new(name, &shape));
        }
        Ok(table)
    }

    fn begin(&self, lesson: &Lesson<'_, Classify>) -> Result<Beginning<Classify>, MethodError> {
        let prompt = CoCoOp::of_model(lesson.model, lesson.class_names, self)?;
        let mut parameters = initial_context(lesson, &self.layout())?;
        let mut random = ChaCha8Rng::seed_from_u64(lesson.seed);
        random.set_stream(1); // the context is drawn from stream 0
        for (name, shape, inputs) in meta_net(lesson.model)? {
            let values = match lesson.initial {
                Initialisation::File { path } => {
                    let (values, found) = read_tensor(path, name)?;
                    if found != shape {
                        return Err(MethodError::InitialShape {
                            path: path.clone(),
                            name: name.to_owned(),
                            found,
                            expected: shape,
                        });
                    }
                    values
                }
                _ => Initial::linear(inputs).draw(shape.iter().product(), &mut random),
            };
            parameters.insert_data(name, &shape, values, lesson.model.device());
        }
        Ok(Beginning {
            prompt: Box::new(prompt),
            parameters,
        })
    }

    fn open(
        &self,
        model: &Model,
        class_names: &[String],
        _parameters: &Parameters,
        _stored: Option<Tensor<2>>,
    ) -> Result<Box<dyn Prompt<Classify>>, MethodError> {
        Ok(Box::new(CoCoOp::of_model(model, class_names, self)?))
    }

    /// One picture a step, ten epochs (KaiyangZhou/CoOp, `vit_b16_c4_ep10_batch1_ctxv1`).
    fn published(&self, _shots: Option<usize>) -> Recipe {
        Recipe::coop(10, 1)
    }

    fn context_layout(&self) -> Option<ContextLayout> {
        Some(self.layout())
    }
}

/// Name, shape and number of inputs of each parameter of a network.
type Layers = [(&'static str, Vec<usize>, usize); 4];

/// The network from an image feature `[D]` to a shift `[d]`.
pub(crate) fn meta_net(model: &Model) -> Result<Layers, ModelError> {
    let (width, embedding_width) = (model.text_config()?.width, model.config().embedding_width);
    let hidden = embedding_width / REDUCTION;
    Ok([
        (WEIGHT_1, vec![hidden, embedding_width], embedding_width),
        (BIAS_1, vec![hidden], embedding_width),
        (WEIGHT_2, vec![width, hidden], hidden),
        (BIAS_2, vec![width], hidden),
    ])
}

/// A prompt for each class and picture.
#[derive(Debug)]
pub struct CoCoOp {
    text: TextTower,
    placeholders: Vec<Placeholder>,
    context_length: usize,
    logit_scale: Tensor<1>,
    /// The prompts of so many pictures at once, laid out when they are first asked for.
    prepared: Mutex<BTreeMap<usize, Arc<PreparedPrompts>>>,
}

impl CoCoOp {
    /// One prompt for each class below the context of each picture.
    ///
    /// # Errors
    /// A prompt too long for the tower.
    pub fn new(
        text: &TextTower,
        logit_scale: Tensor<1>,
        placeholders: Vec<Placeholder>,
        context_length: usize,
    ) -> Result<Self, BackboneError> {
        let prompt = Self {
            text: text.clone(),
            placeholders,
            context_length,
            logit_scale,
            prepared: Mutex::default(),
        };
        prompt.prepared(1)?; // says now what would not fit later
        Ok(prompt)
    }

    fn of_model(
        model: &Model,
        class_names: &[String],
        settings: &CoCoOpSettings,
    ) -> Result<Self, MethodError> {
        let text = model.text_tower()?;
        let limit = text.config().context_length;
        let tokenizer = model.tokenizer()?;
        let layout = settings.layout();
        let placeholders = coop::placeholders(&tokenizer, class_names, &layout, limit)?;
        let length = settings.context_length;
        Ok(Self::new(
            &text,
            model.logit_scale()?,
            placeholders,
            length,
        )?)
    }

    /// The prompts of `pictures` pictures, picture by picture.
    fn prepared(&self, pictures: usize) -> Result<Arc<PreparedPrompts>, BackboneError> {
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prompts) = prepared.get(&pictures) {
            return Ok(Arc::clone(prompts));
        }
        let length = self.context_length;
        let prompts: Vec<Vec<Row>> = (0..pictures)
            .flat_map(|picture| {
                self.placeholders.iter().map(move |placeholder| {
                    coop::prompt_rows(placeholder, length, Position::End, picture * length)
                })
            })
            .collect();
        let prompts = Arc::new(self.text.prepare(&PromptLayout::new(&prompts))?);
        prepared.insert(pictures, Arc::clone(&prompts));
        Ok(prompts)
    }

    /// π(x) = W₂ ReLU(W₁ x + b₁) + b₂ of image features of unit length, `[B, D]` -> `[B, d]`.
    fn shift(&self, parameters: &Parameters, images: Tensor<2>) -> Result<Tensor<2>, PromptError> {
        let linear = |x: Tensor<2>, weight: &str, bias: &str| {
            let weight = parameters.get::<2>(weight)?;
            let bias = parameters.get::<1>(bias)?;
            Ok::<_, PromptError>(x.matmul(weight.transpose()) + bias.unsqueeze())
        };
        let hidden = activation::relu(linear(images, WEIGHT_1, BIAS_1)?); // [B, D / 16]
        linear(hidden, WEIGHT_2, BIAS_2)
    }

    /// Logits of a few pictures, `[B, D]` of unit length -> `[B, K]`.
    fn logits_at_once(
        &self,
        parameters: &Parameters,
        images: Tensor<2>,
    ) -> Result<Tensor<2>, PromptError> {
        let [pictures, embedding_width] = images.dims();
        let classes = self.placeholders.len();
        let shift = self.shift(parameters, images.clone())?; // [B, d]
        let context = parameters.get::<2>(CONTEXT)?; // [M, d]
        let [length, width] = context.dims();
        let contexts = context.unsqueeze::<3>() + shift.unsqueeze_dim(1); // [B, M, d]
        let table = contexts.reshape([pictures * length, width]);
        let texts = self.text.encode(&*self.prepared(pictures)?, Some(table)); // [B·K, D]
        let texts = normalise(texts).reshape([pictures, classes, embedding_width]);
        let cosine = texts.matmul(images.unsqueeze_dim(2)); // [B, K, 1]
        Ok(cosine.reshape([pictures, classes]) * self.logit_scale.clone().exp().unsqueeze())
    }

    /// Rows that one picture's prompts take.
    fn rows_a_picture(&self) -> usize {
        let own = |placeholder: &Placeholder| placeholder.ids.len() - self.context_length;
        self.context_length + self.placeholders.iter().map(own).sum::<usize>()
    }
}

impl Prompt<Classify> for CoCoOp {
    fn forward(&self, parameters: &Parameters, inputs: &Inputs) -> Result<Tensor<2>, PromptError> {
        let images = normalise(inputs.features()?); // [B, D]
        let pictures = images.dims()[0];
        let at_once = match parameters.track_gradients() {
            true => pictures,
            false => (ROWS_AT_ONCE / self.rows_a_picture()).clamp(1, pictures),
        };
        let logits = (0..pictures)
            .step_by(at_once)
            .map(|first| {
                let some = images
                    .clone()
                    .narrow(0, first, at_once.min(pictures - first));
                self.logits_at_once(parameters, some)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Tensor::cat(logits, 0))
    }
}
