//! Where a tower's parameters come from: a checkpoint (frozen) or a training run (trainable).

use burn::tensor::Tensor;

/// Hands out parameters by their OpenAI name, such as `visual.transformer.resblocks.0.ln_1.weight`.
///
/// A tower asks for every parameter it has exactly once, with the shape that its configuration implies. A frozen
/// source answers with constants; a training source answers with tracked leaves, and the same tower trains.
pub trait ParameterSource {
    /// What can go wrong in this source: a missing parameter, a wrong shape, an unreadable file.
    type Error;

    /// The parameter called `name`, of exactly `shape`.
    fn parameter<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Tensor<D>, Self::Error>;
}
