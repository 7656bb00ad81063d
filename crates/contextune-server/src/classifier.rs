//! An entry of the shelf, ready to turn what its method is given of pictures into probabilities of classes.

use contextune::input::{InputError, Inputs};
use contextune::method::MethodError;
use contextune::method::text::zeroshot;
use contextune::run::LearnError;
use contextune::task::{Classify, Predictor, PromptError, Task};
use contextune::text::TEMPLATE;

use crate::answer::Guess;
use crate::shelf::Entry;

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
pub(crate) struct Classifier(Predictor<Classify>);

/// Why nothing classifies in a wording.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClassifierError {
    #[error("{0}")]
    Wording(String),
    #[error(transparent)]
    Learned(#[from] LearnError),
    #[error(transparent)]
    Method(#[from] MethodError),
    #[error(transparent)]
    Prompt(#[from] PromptError),
    #[error(transparent)]
    Input(#[from] InputError),
}

impl Classifier {
    /// Makes what classifies as `entry` does, in this wording.
    pub fn new(entry: &Entry, wording: &Wording) -> Result<Self, ClassifierError> {
        let model = &entry.backbone.model;
        let refuse = |problem: String| Err(ClassifierError::Wording(problem));
        let Wording { classes, templates } = wording;
        let predictor = match (&entry.learned, classes, templates) {
            (Some(_), _, Some(_)) => {
                return refuse(format!(
                    "{} is a learned prompt, which stands where a template would: leave the templates out, or ask the words of its model",
                    entry.name
                ));
            }
            (Some(run), classes, None) => {
                let classes = classes.as_ref().unwrap_or(&run.learned.file.class_names);
                run.learned.predictor(model, classes)?
            }
            (None, None, _) => {
                return refuse(format!(
                    "{} knows no classes of its own: name them in `classes`",
                    entry.name
                ));
            }
            (None, Some(classes), templates) => {
                let templates = templates
                    .as_ref()
                    .map_or(TEMPLATE.to_owned(), |lines| lines.join("\n"));
                zeroshot::predictor(model, classes, &templates)?
            }
        };
        Ok(Self(predictor))
    }

    /// Returns the `top` most probable classes of each input.
    pub fn guesses(&self, inputs: &Inputs, top: usize) -> Result<Vec<Vec<Guess>>, ClassifierError> {
        let class_names = self.0.class_names();
        let guesses = Classify::guesses(self.0.output(inputs)?, top).map_err(PromptError::from)?;
        let named = guesses.into_iter().map(|guess| {
            let named = guess.into_iter().map(|(class, probability)| Guess {
                class: class_names[class].clone(),
                probability,
            });
            named.collect()
        });
        Ok(named.collect())
    }
}
