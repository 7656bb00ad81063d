//! Side-tuning: a small network beside the frozen tower, all of it trained, whose features are mixed with the tower's (Zhang
//! et al. 2020, "Side-Tuning: A Baseline for Network Adaptation via Additive Side Networks", §3; KMnP/vpt 4410440,
//! `vit_models.py`).

use burn::tensor::{Device, Tensor, activation};
use rand_chacha::ChaCha8Rng;

use crate::backbone::alexnet;
use crate::checkpoint;
use crate::method::{Initialisation, MethodError};
use crate::parameters::{ExpectedTensor, Initial, ParameterError, Parameters, Size};
use crate::task::PromptError;

/// What the names of the side network's parameters begin with.
const PREFIX: &str = "side.";
/// Name of the linear layer from its features to the tower's, `[D, 9216]`.
const PROJECTION: &str = "side_projection.weight";
/// Name of α, `[1]`.
const ALPHA: &str = "side_alpha";

/// Adds a side network for features of width `width`: an AlexNet from a file of its weights, as torchvision publishes them, or
/// at random, as PyTorch initialises layers. α begins at 0: half of each.
///
/// # Errors
/// A file without these weights.
pub(super) fn initialise(
    parameters: &mut Parameters,
    initial: &Initialisation,
    width: usize,
    random: &mut ChaCha8Rng,
    device: &Device,
) -> Result<(), MethodError> {
    let channels = match initial {
        Initialisation::File { path } => {
            let tensors = checkpoint::tensors_of(path)?;
            let channels = channels(|name| Some(tensors.get(name)?.shape()));
            for (name, expected) in alexnet::parameters(channels) {
                let Some(tensor) = tensors.get(&name) else {
                    return Err(MethodError::InitialMissing {
                        path: path.clone(),
                        name,
                    });
                };
                if tensor.shape() != expected {
                    return Err(MethodError::InitialShape {
                        path: path.clone(),
                        name,
                        found: tensor.shape().to_vec(),
                        expected,
                    });
                }
                parameters.insert_data(
                    &format!("{PREFIX}{name}"),
                    &expected,
                    tensor.read()?,
                    device,
                );
            }
            channels
        }
        _ => {
            let mut bound = Initial::Constant(0.0);
            for (name, shape) in alexnet::parameters(alexnet::CHANNELS) {
                if let [_, inputs @ ..] = &shape[..]
                    && !inputs.is_empty()
                {
                    bound = Initial::linear(inputs.iter().product()); // of the bias behind it as well
                }
                let values = bound.draw(shape.iter().product(), random);
                parameters.insert_data(&format!("{PREFIX}{name}"), &shape, values, device);
            }
            alexnet::CHANNELS
        }
    };
    let features = alexnet::features(channels);
    let projection = Initial::linear(features).draw(width * features, random);
    parameters.insert_data(PROJECTION, &[width, features], projection, device);
    parameters.insert_data(ALPHA, &[1], vec![0.0], device);
    Ok(())
}

/// Lists the tensors of a side network for features of width `width`; how many channels its layers have, the file alone says.
pub(super) fn tensors(width: usize) -> Vec<ExpectedTensor> {
    /// Letters of the channels of the five layers, and of what stands between network and projection.
    const CHANNELS: [char; 5] = ['a', 'b', 'c', 'd', 'e'];
    let parameters = alexnet::parameters(alexnet::CHANNELS)
        .into_iter()
        .enumerate();
    let mut table: Vec<ExpectedTensor> = parameters
        .map(|(place, (name, shape))| {
            let layer = place / 2;
            let outputs = Size::Any(CHANNELS[layer]);
            let shape: Vec<Size> = match (&shape[..], layer.checked_sub(1)) {
                ([_], _) => vec![outputs],
                ([_, _, kernel @ ..], Some(before)) => [outputs, Size::Any(CHANNELS[before])]
                    .into_iter()
                    .chain(kernel.iter().copied().map(Size::Exactly))
                    .collect(),
                ([_, rest @ ..], _) => [outputs]
                    .into_iter()
                    .chain(rest.iter().copied().map(Size::Exactly))
                    .collect(),
                ([], _) => Vec::new(),
            };
            ExpectedTensor::sized(format!("{PREFIX}{name}"), &shape)
        })
        .collect();
    let projection = [Size::Exactly(width), Size::Any('f')];
    table.push(ExpectedTensor::sized(PROJECTION, &projection));
    table.push(ExpectedTensor::new(ALPHA, &[1]));
    table
}

/// Checks that the projection takes what a network of these channels gives, features of width `width`.
///
/// # Errors
/// A projection of another shape.
pub(super) fn check(parameters: &Parameters, width: usize) -> Result<(), ParameterError> {
    let channels = learned_channels(parameters);
    parameters.require(PROJECTION, &[width, alexnet::features(channels)])
}

/// σ(α) f + (1 − σ(α)) W s: normalised pixels `[B, 3, H, W]` and the tower's features f of them, `[B, D]` -> `[B, D]`.
///
/// # Errors
/// A tensor is missing.
pub fn mixed(
    parameters: &Parameters,
    pixels: Tensor<4>,
    features: Tensor<2>,
) -> Result<Tensor<2>, PromptError> {
    let channels = learned_channels(parameters);
    let side = alexnet::forward(&mut &*parameters, PREFIX, channels, pixels)?; // [B, 9216]
    let side = side.matmul(parameters.get::<2>(PROJECTION)?.transpose()); // [B, D]
    let share = activation::sigmoid(parameters.get::<1>(ALPHA)?).unsqueeze::<2>(); // [1, 1]
    Ok(features * share.clone() + side * (share.neg() + 1.0))
}

/// Channels of a network, from the shapes of its biases; as published where there are none.
fn channels<'a>(shape: impl Fn(&str) -> Option<&'a [usize]>) -> [usize; 5] {
    let mut channels = alexnet::CHANNELS;
    let biases = alexnet::parameters(channels).into_iter().skip(1).step_by(2);
    for ((name, _), channels) in biases.zip(&mut channels) {
        *channels = shape(&name).map_or(*channels, |shape| shape.iter().product());
    }
    channels
}

fn learned_channels(parameters: &Parameters) -> [usize; 5] {
    channels(|name| parameters.shape(&format!("{PREFIX}{name}")))
}
