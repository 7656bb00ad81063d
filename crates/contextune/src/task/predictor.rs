//! A prompt with what it learned, ready for inputs: what it makes of them, in bounded memory.

use burn::tensor::{Device, Tensor};

use super::{Classify, Prompt, PromptError, Task};
use crate::evaluate::Accuracy;
use crate::input::{Examples, InputKind, InputTable, Inputs, PICTURES_AT_ONCE};
use crate::parameters::{Parameters, elements_of};

/// Numbers of features or of outputs that are in memory at once: 4,096 features of width 1,024.
const NUMBERS_AT_ONCE: usize = 1 << 22;

/// A prompt with its parameters and classes; all that is the same for every input is computed once.
#[derive(Debug)]
pub struct Predictor<T: Task> {
    prompt: Box<dyn Prompt<T>>,
    parameters: Parameters,
    class_names: Vec<String>,
    device: Device,
}

impl<T: Task> Predictor<T> {
    /// Makes `prompt` ready for inputs with what was learned for these classes, K of them.
    ///
    /// # Errors
    /// Parameters that do not fit.
    pub fn new(
        prompt: Box<dyn Prompt<T>>,
        parameters: Parameters,
        class_names: Vec<String>,
        device: &Device,
    ) -> Result<Self, PromptError> {
        let prompt = match prompt.ready(&parameters)? {
            Some(ready) => ready,
            None => prompt,
        };
        Ok(Self {
            prompt,
            parameters,
            class_names,
            device: device.clone(),
        })
    }

    /// Returns the prompt.
    pub fn prompt(&self) -> &dyn Prompt<T> {
        &*self.prompt
    }

    /// Returns what was learned.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Returns the K classes.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Returns what the prompt makes of a batch.
    ///
    /// # Errors
    /// Inputs of another kind than the prompt works on.
    pub fn output(&self, inputs: &Inputs) -> Result<T::Output, PromptError> {
        self.prompt.forward(&self.parameters, inputs)
    }

    /// Returns what is kept of the first view of every input, `count` answers each: in memory for that alone.
    ///
    /// # Errors
    /// A picture that cannot be read any more.
    pub fn guesses(&self, inputs: &InputTable, count: usize) -> Result<Vec<T::Guess>, PromptError> {
        let mut guesses = Vec::with_capacity(inputs.count());
        self.in_parts(inputs, |output| {
            guesses.extend(T::guesses(output, count)?);
            Ok(())
        })?;
        Ok(guesses)
    }

    /// Gives `take` what the prompt makes of the first view of every input, part by part.
    fn in_parts(
        &self,
        inputs: &InputTable,
        mut take: impl FnMut(T::Output) -> Result<(), PromptError>,
    ) -> Result<(), PromptError> {
        let at_once = match inputs.kind() {
            InputKind::Features => {
                let largest = inputs.width().max(self.class_names.len()).max(1);
                (NUMBERS_AT_ONCE / largest).max(1)
            }
            // What a tower makes of pixels on the way is much larger than they are.
            InputKind::Pixels { .. } => PICTURES_AT_ONCE,
        };
        for first in (0..inputs.count()).step_by(at_once) {
            let last = (first + at_once).min(inputs.count());
            let which: Vec<_> = (first..last).map(|input| (input, 0)).collect();
            take(self.output(&inputs.select(&which, &self.device)?)?)?;
        }
        Ok(())
    }
}

impl Predictor<Classify> {
    /// Returns the logits of the first view of every picture, `[N, K]` row-major.
    ///
    /// # Errors
    /// A picture that cannot be read any more.
    pub fn logits(&self, inputs: &InputTable) -> Result<Vec<f32>, PromptError> {
        let mut all = Vec::new();
        self.in_parts(inputs, |logits: Tensor<2>| {
            all.extend(elements_of("logits", logits)?);
            Ok(())
        })?;
        Ok(all)
    }

    /// Counts how many pictures are classified rightly. Memory does not grow with the pictures.
    ///
    /// # Errors
    /// A picture that cannot be read any more.
    pub fn accuracy(&self, examples: &Examples<usize>) -> Result<Accuracy, PromptError> {
        let classes = self.class_names.len();
        let mut accuracy = Accuracy::none(classes);
        let mut labels = &examples.targets[..];
        self.in_parts(&examples.inputs, |logits: Tensor<2>| {
            let logits = elements_of("logits", logits)?;
            let (of_these, later) = labels.split_at(logits.len() / classes);
            accuracy.add(&logits, of_these);
            labels = later;
            Ok(())
        })?;
        Ok(accuracy)
    }
}
