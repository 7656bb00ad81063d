//! Update rules, as PyTorch computes them.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::parameters::Parameters;

/// An update rule with its constants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Optimizer {
    /// Stochastic gradient descent with momentum, without dampening or Nesterov's correction; weight decay is part of
    /// the gradient.
    Sgd {
        /// Share of the previous step that is kept.
        momentum: f32,
        /// Factor of the parameter that is added to its gradient.
        weight_decay: f32,
    },
    /// Adam whose weight decay is part of the gradient (Kingma & Ba 2015; PyTorch's `Adam`).
    Adam {
        /// Decay rates of the first and second moment.
        betas: [f32; 2],
        /// Added to the root of the second moment.
        epsilon: f32,
        /// Factor of the parameter that is added to its gradient.
        weight_decay: f32,
    },
    /// Adam with decoupled weight decay (Loshchilov & Hutter 2019). Tensors with fewer than two dimensions (gains,
    /// biases, the logit scale) do not decay, as in CLIP.
    AdamW {
        /// Decay rates of the first and second moment.
        betas: [f32; 2],
        /// Added to the root of the second moment.
        epsilon: f32,
        /// Factor of the parameter subtracted in each step, times the learning rate.
        weight_decay: f32,
    },
}

impl Optimizer {
    /// Adam with PyTorch's moments, without weight decay.
    pub const ADAM: Self = Self::Adam {
        betas: [0.9, 0.999],
        epsilon: 1e-8,
        weight_decay: 0.0,
    };

    /// AdamW with PyTorch's moments.
    pub const fn adam_w(weight_decay: f32) -> Self {
        Self::AdamW {
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            weight_decay,
        }
    }
}

/// What an optimizer remembers between steps.
#[derive(Clone, Debug, Default)]
pub struct OptimizerState {
    /// Steps done.
    pub steps: usize,
    /// SGD's momentum buffer or Adam's first moment, flat, by parameter name.
    pub first: BTreeMap<String, Tensor<1>>,
    /// Adam's second moment, flat, by parameter name.
    pub second: BTreeMap<String, Tensor<1>>,
}

impl Optimizer {
    /// One step: `parameters` move by their `gradients` (flat, by name); a parameter without a gradient stays.
    pub fn step(
        &self,
        parameters: &mut Parameters,
        gradients: &BTreeMap<String, Tensor<1>>,
        learning_rate: f32,
        state: &mut OptimizerState,
    ) {
        state.steps += 1;
        parameters.update(|name, shape, value| {
            let Some(gradient) = gradients.get(name).cloned() else {
                return value;
            };
            match *self {
                Self::Sgd {
                    momentum,
                    weight_decay,
                } => {
                    let gradient = gradient + value.clone() * weight_decay;
                    let velocity = match state.first.remove(name) {
                        Some(velocity) => velocity * momentum + gradient,
                        None => gradient,
                    };
                    state.first.insert(name.to_owned(), velocity.clone());
                    value - velocity * learning_rate
                }
                Self::Adam {
                    betas,
                    epsilon,
                    weight_decay,
                } => {
                    let gradient = gradient + value.clone() * weight_decay;
                    value - state.adam(name, gradient, betas, epsilon) * learning_rate
                }
                Self::AdamW {
                    betas,
                    epsilon,
                    weight_decay,
                } => {
                    let decay = if shape.len() < 2 { 0.0 } else { weight_decay };
                    let value = value * (1.0 - learning_rate * decay);
                    value - state.adam(name, gradient, betas, epsilon) * learning_rate
                }
            }
        });
    }
}

impl OptimizerState {
    /// Adam's direction: the first moment over the root of the second, both corrected for their beginning at zero.
    fn adam(
        &mut self,
        name: &str,
        gradient: Tensor<1>,
        [beta1, beta2]: [f32; 2],
        epsilon: f32,
    ) -> Tensor<1> {
        let squared = gradient.clone().square() * (1.0 - beta2);
        let gradient = gradient * (1.0 - beta1);
        let mean = match self.first.remove(name) {
            Some(mean) => mean * beta1 + gradient,
            None => gradient,
        };
        let variance = match self.second.remove(name) {
            Some(variance) => variance * beta2 + squared,
            None => squared,
        };
        self.first.insert(name.to_owned(), mean.clone());
        self.second.insert(name.to_owned(), variance.clone());
        let steps = self.steps as i32;
        let mean = mean / (1.0 - beta1.powi(steps));
        let variance = variance / (1.0 - beta2.powi(steps));
        mean / (variance.sqrt() + epsilon)
    }
}
