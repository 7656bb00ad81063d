//! Where a tower's parameters come from: a checkpoint (frozen) or a training run (trainable).

use burn::tensor::Tensor;

use super::{ParameterError, Parameters};

/// Hands out parameters by their OpenAI name, such as `visual.transformer.resblocks.0.ln_1.weight`.
///
/// A tower asks for every parameter it has exactly once, with the shape that its configuration implies. A frozen
/// source answers with constants; a training source answers with tracked leaves, and the same tower trains.
pub trait ParameterSource {
    /// What can go wrong in this source: a missing parameter, a wrong shape, an unreadable file.
    type Error;

    /// Returns the parameter called `name`, of exactly `shape`.
    ///
    /// # Errors
    /// The source has no such parameter, or cannot read it.
    fn parameter<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Tensor<D>, Self::Error>;
}

/// A tower built from parameters trains: gradients of its outputs reach the leaves.
impl ParameterSource for &Parameters {
    type Error = ParameterError;

    fn parameter<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Tensor<D>, ParameterError> {
        self.require(name, &shape)?;
        self.get(name)
    }
}

/// Passes parameters through from `source` and keeps them by name: building a tower from it collects all it has.
#[derive(Debug)]
pub struct Collector<S> {
    source: S,
    parameters: Parameters,
}

impl<S: ParameterSource> Collector<S> {
    /// Starts with nothing collected.
    pub fn new(source: S) -> Self {
        Self {
            source,
            parameters: Parameters::default(),
        }
    }

    /// Returns what was asked for so far.
    pub fn into_parameters(self) -> Parameters {
        self.parameters
    }
}

impl<S: ParameterSource> ParameterSource for Collector<S> {
    type Error = S::Error;

    fn parameter<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Tensor<D>, S::Error> {
        let tensor = self.source.parameter(name, shape)?;
        self.parameters.insert(name, tensor.clone());
        Ok(tensor)
    }
}
