//! A linear classifier on image features: x Wᵀ + b.

use burn::tensor::{Device, Tensor};
use rand_chacha::ChaCha8Rng;

use crate::parameters::{ExpectedTensor, Initial, ParameterError, Parameters, Size};

/// Name of W, `[K, D]`.
pub const WEIGHT: &str = "head.weight";
/// Name of b, `[K]`.
pub const BIAS: &str = "head.bias";

/// `features` `[B, D]` -> logits `[B, K]`.
pub fn logits(parameters: &Parameters, features: Tensor<2>) -> Result<Tensor<2>, ParameterError> {
    let (weight, bias) = (parameters.get(WEIGHT)?, parameters.get(BIAS)?);
    Ok(logits_of(features, weight, bias))
}

/// The same by W `[K, D]` and b `[K]`.
pub fn logits_of(features: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    features.matmul(weight.transpose()) + bias.unsqueeze()
}

/// Lists the tensors of a head on features of width D.
pub fn tensors(classes: Size, width: usize) -> Vec<ExpectedTensor> {
    vec![
        ExpectedTensor::sized(WEIGHT, &[classes, Size::Exactly(width)]),
        ExpectedTensor::sized(BIAS, &[classes]),
    ]
}

/// Adds a head for K classes as KMnP/vpt initialises it: W from N(0, 2/K), and every class with the probability 1 % of a
/// sigmoid, b = −ln 99.
pub fn initialise(
    parameters: &mut Parameters,
    [classes, width]: [usize; 2],
    random: &mut ChaCha8Rng,
    device: &Device,
) {
    let deviation = (2.0 / classes as f32).sqrt();
    let weight = Initial::Normal(deviation).draw(classes * width, random);
    parameters.insert_data(WEIGHT, &[classes, width], weight, device);
    parameters.insert_data(BIAS, &[classes], vec![-(99f32.ln()); classes], device);
}
