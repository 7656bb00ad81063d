//! An entry of the shelf, ready to turn what its method is given of pictures into probabilities of classes.

use burn::tensor::Tensor;
use contextune::evaluate::most_probable;
use contextune::prompt::{MethodError, Prompt};
use contextune::text::TEMPLATE;
use contextune::train::Parameters;

use crate::answer::Guess;
use crate::shelf::{Entry, words};

/// The classes and words that a request asks for; those that it leaves out are the entry's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Wording {
    /// Names of classes; absent: those it was learned for.
    pub classes: Option<Vec<String>>,
    /// Templates, for words alone; absent: "a photo of a {}.".
    pub templates: Option<Vec<String>>,
}

/// A prompt with its classes. What is the same for every picture is computed once, when it is made.
#[derive(Debug)]
pub(crate) struct Classifier {
    class_names: Vec<String>,
    prompt: Box<dyn Prompt>,
    parameters: Parameters,
}

impl Classifier {
    /// What classifies as `entry` does, in this wording.
    pub fn new(entry: &Entry, wording: &Wording) -> Result<Self, MethodError> {
        let model = &entry.backbone.model;
        let combination = |problem: String| Err(MethodError::Combination(problem));
        let (class_names, prompt, parameters) = match (&entry.learned, wording) {
            (
                Some(_),
                Wording {
                    templates: Some(_), ..
                },
            ) => {
                return combination(format!(
                    "{} is a learned prompt, which stands where a template would: leave the templates out, or ask the words of its model",
                    entry.name
                ));
            }
            (Some(run), Wording { classes, .. }) => {
                let learned = &run.learned;
                let classes = classes.as_ref().unwrap_or(&learned.file.class_names);
                let prompt = learned.prompt(model, classes)?;
                (classes.clone(), prompt, learned.file.parameters.clone())
            }
            (None, Wording { classes: None, .. }) => {
                return combination(format!(
                    "{} knows no classes of its own: name them in `classes`",
                    entry.name
                ));
            }
            (
                None,
                Wording {
                    classes: Some(classes),
                    templates,
                },
            ) => {
                let templates = templates
                    .as_ref()
                    .map_or(TEMPLATE.to_owned(), |lines| lines.join("\n"));
                let parameters = Parameters::default();
                let method = words(&templates);
                let prompt = method.learn().open(model, classes, &parameters, None)?;
                (classes.clone(), prompt, parameters)
            }
        };
        let prompt = match prompt.class_features(&parameters)? {
            Some(features) => Box::new(features),
            None => prompt,
        };
        Ok(Self {
            class_names,
            prompt,
            parameters,
        })
    }

    /// The `top` most probable classes of each row of `inputs` `[B, D]`.
    pub fn guesses(&self, inputs: Tensor<2>, top: usize) -> Result<Vec<Vec<Guess>>, MethodError> {
        let logits = self.prompt.logits(&self.parameters, inputs)?; // [B, K]
        let logits: Vec<f32> = logits
            .inner()
            .into_data()
            .try_to_vec()
            .map_err(|error| MethodError::Combination(format!("{error:?}")))?;
        let guesses = logits.chunks_exact(self.class_names.len()).map(|row| {
            most_probable(row, top)
                .into_iter()
                .map(|(class, probability)| Guess {
                    class: self.class_names[class].clone(),
                    probability,
                })
                .collect()
        });
        Ok(guesses.collect())
    }
}
