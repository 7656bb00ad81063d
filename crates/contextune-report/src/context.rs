//! What learned context vectors are near to, and how far they moved.

use serde::Serialize;

use crate::ReportError;
use contextune::data::distinct_names;
use contextune::explain::movement::{Movement, movements};
use contextune::explain::words::{self, NearWord, Neighbours};
use contextune::input::Examples;
use contextune::method::Lesson;
use contextune::method::text::coop::{CONTEXT, ContextLayout, Position, initial_context};
use contextune::model::Model;
use contextune::run::Learned;
use contextune::task::Classify;

/// The context vectors of a run.
#[derive(Debug, Serialize)]
pub struct LearnedContext {
    /// Vectors in a context, M.
    pub length: usize,
    /// Whether each class has a context of its own.
    pub class_specific: bool,
    /// Where the class name stands.
    pub position: Position,
    /// M of them, or K · M class by class.
    pub vectors: Vec<LearnedVector>,
    /// Why it is not known how far they moved.
    #[serde(skip)]
    pub unknown_beginning: Option<String>,
}

/// One context vector.
#[derive(Debug, Serialize)]
pub struct LearnedVector {
    /// The class whose context it belongs to, if each has its own.
    pub class: Option<String>,
    /// Its place in the context, from 1.
    pub place: usize,
    /// How far it is from where it began; absent if the beginning is not known.
    pub moved: Option<Movement>,
    /// The nearest words first.
    pub nearest_by_distance: Vec<NearWord>,
    /// The words of most equal direction first.
    pub nearest_by_cosine: Vec<NearWord>,
}

/// The context of `learned` with the `count` words nearest to each vector; `None` for methods without context vectors.
///
/// # Errors
/// A prompt or model that cannot be read.
pub fn learned_context(
    learned: &Learned,
    model: &Model,
    count: usize,
) -> Result<Option<LearnedContext>, ReportError> {
    let Some(layout) = learned.method().context_layout() else {
        return Ok(None);
    };
    let text = model.text_tower()?;
    let width = text.config().width;
    let parameters = &learned.file.parameters;
    let values = parameters.data(CONTEXT)?;
    let table = match layout.class_specific {
        false => parameters.get::<2>(CONTEXT)?, // [M, d]
        true => {
            let context = parameters.get::<3>(CONTEXT)?; // [K, M, d]
            let [classes, length, _] = context.dims();
            context.reshape([classes * length, width]) // [K · M, d]
        }
    };
    let near = words::nearest(&table, &text, &*model.tokenizer()?, count);
    let (moved, unknown_beginning) = match beginning(learned, &layout, model) {
        Ok(initial) if initial.len() == values.len() => (movements(&initial, &values, width), None),
        Ok(_) => {
            let unknown = "the initialisation has another number of vectors by now";
            (Vec::new(), Some(unknown.to_owned()))
        }
        Err(unknown) => (Vec::new(), Some(unknown)),
    };
    let mut moved = moved.into_iter();
    let names = distinct_names(&learned.file.class_names);
    let vectors = near.into_iter().enumerate().map(|(index, near)| {
        let Neighbours {
            by_distance,
            by_cosine,
        } = near;
        LearnedVector {
            class: match layout.class_specific {
                true => names.get(index / layout.length).cloned(),
                false => None,
            },
            place: index % layout.length + 1,
            moved: moved.next(),
            nearest_by_distance: by_distance,
            nearest_by_cosine: by_cosine,
        }
    });
    Ok(Some(LearnedContext {
        length: layout.length,
        class_specific: layout.class_specific,
        position: layout.position,
        vectors: vectors.collect(),
        unknown_beginning,
    }))
}

/// The context as it was before the first step, computed again; or why it is not known.
fn beginning(learned: &Learned, layout: &ContextLayout, model: &Model) -> Result<Vec<f32>, String> {
    let settings = &learned.settings;
    if settings.imported.is_some() {
        return Err("the prompt is imported, and its file does not hold its beginning".into());
    }
    let lesson: Lesson<'_, Classify> = Lesson {
        model,
        class_names: &learned.file.class_names,
        train: &Examples::none(model.config().embedding_width),
        val: None,
        initial: &settings.initial,
        seed: settings.seed,
    };
    let initial = initial_context(&lesson, layout).map_err(|error| error.to_string())?;
    initial.data(CONTEXT).map_err(|error| error.to_string())
}
