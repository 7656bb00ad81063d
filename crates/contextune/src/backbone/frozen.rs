//! Weights that never change, packed for the products that they take part in.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Tensor, TensorData};

use contextune_kernel::convolution::{Windows, convolution};
use contextune_kernel::depthwise;
use contextune_kernel::product::{Epilogue, PackedMatrix};
use contextune_kernel::winograd::Winograd;

use super::kinds;

/// A matrix to multiply by from the right, and a bias.
#[derive(Clone, Debug)]
pub struct FrozenMatrix(Arc<Packed>);

#[derive(Debug)]
struct Packed {
    weight: PackedMatrix,
    /// For gradients of the input, once somebody asks for them.
    transposed: OnceLock<PackedMatrix>,
    bias: Vec<f32>,
}

impl FrozenMatrix {
    /// `weight` `[outputs, inputs]` as PyTorch stores it, `bias` `[outputs]`; `None` if one of them is being learned, or
    /// lies on a device with products of its own.
    pub(super) fn new(weight: &Tensor<2>, bias: &Tensor<1>) -> Option<Self> {
        if weight.is_tracked() || bias.is_tracked() || !kinds::stand_for(&weight.device()) {
            return None;
        }
        let [_, inputs] = weight.dims();
        Some(Self(Arc::new(Packed {
            weight: PackedMatrix::transposed(&numbers(weight.clone().into_data()), inputs),
            transposed: OnceLock::new(),
            bias: numbers(bias.clone().into_data()),
        })))
    }

    pub(super) fn weight(&self) -> &PackedMatrix {
        &self.0.weight
    }

    pub(super) fn transposed(&self) -> &PackedMatrix {
        self.0.transposed.get_or_init(|| self.0.weight.transpose())
    }

    pub(super) fn bias(&self) -> &[f32] {
        &self.0.bias
    }
}

/// A convolution of three by three pixels with zeros around the picture and a bias.
#[derive(Clone, Debug)]
pub struct FrozenConvolution(Arc<PackedConvolution>);

#[derive(Debug)]
struct PackedConvolution {
    /// `[outputs, 3 · 3 · inputs]`, a window's numbers line by line, channels last.
    weight: Vec<f32>,
    /// `[outputs]`
    bias: Vec<f32>,
    forward: Forward,
    /// For gradients of the input, once somebody asks for them.
    transposed: OnceLock<PackedMatrix>,
    stride: usize,
}

#[derive(Debug)]
enum Forward {
    Direct(PackedMatrix),
    Winograd(Winograd),
}

impl FrozenConvolution {
    /// `weight` `[outputs, inputs, 3, 3]` as PyTorch stores it, `bias` `[outputs]`; `None` if one of them is being learned, or
    /// lies on a device with products of its own.
    pub(super) fn new(weight: &Tensor<4>, bias: &Tensor<1>, stride: usize) -> Option<Self> {
        if weight.is_tracked() || bias.is_tracked() || !kinds::stand_for(&weight.device()) {
            return None;
        }
        let [_, inputs, ..] = weight.dims();
        let weight = numbers(weight.clone().permute([0, 2, 3, 1]).into_data());
        let bias = numbers(bias.clone().into_data());
        let winograd = match stride {
            1 => Winograd::new(&weight, inputs),
            _ => None,
        };
        let forward = match winograd {
            Some(winograd) => Forward::Winograd(winograd),
            None => Forward::Direct(PackedMatrix::transposed(&weight, 9 * inputs)),
        };
        Some(Self(Arc::new(PackedConvolution {
            weight,
            bias,
            forward,
            transposed: OnceLock::new(),
            stride,
        })))
    }

    pub(super) fn outputs(&self) -> usize {
        self.0.bias.len()
    }

    pub(super) fn windows(&self, input: [usize; 4]) -> Windows {
        Windows::new(input, self.0.stride)
    }

    /// What is below zero becomes zero.
    pub(super) fn rectified(&self, x: &[f32], input: [usize; 4]) -> Vec<f32> {
        let [_, height, width, _] = input;
        match &self.0.forward {
            Forward::Winograd(winograd) => winograd.rectified(x, &self.0.bias, height, width),
            Forward::Direct(weight) => {
                let epilogue = Epilogue {
                    bias: Some(&self.0.bias),
                    residual: None,
                    rectify: true,
                };
                convolution(x, self.windows(input), weight, epilogue)
            }
        }
    }

    pub(super) fn transposed(&self) -> &PackedMatrix {
        let PackedConvolution { weight, bias, .. } = &*self.0;
        self.0.transposed.get_or_init(|| {
            let inputs = weight.len() / bias.len();
            let row = |output: usize| &weight[output * inputs..(output + 1) * inputs];
            PackedMatrix::of_rows(bias.len(), inputs, row)
        })
    }
}

/// A convolution in which each channel has a window of its own.
#[derive(Clone, Debug)]
pub struct FrozenDepthwise(Arc<DepthwiseWeights>);

#[derive(Debug)]
struct DepthwiseWeights {
    /// `[kernel · kernel, channels]`
    weight: Vec<f32>,
    /// `[channels]`
    bias: Vec<f32>,
    kernel: usize,
    stride: usize,
}

impl FrozenDepthwise {
    /// `weight` `[channels, 1, kernel, kernel]` as PyTorch stores it, `bias` `[channels]`; `None` if one of them is being
    /// learned, or lies on a device with convolutions of its own.
    pub(super) fn new(weight: &Tensor<4>, bias: &Tensor<1>, stride: usize) -> Option<Self> {
        if weight.is_tracked() || bias.is_tracked() || !kinds::stand_for(&weight.device()) {
            return None;
        }
        let [_, _, kernel, _] = weight.dims();
        Some(Self(Arc::new(DepthwiseWeights {
            weight: numbers(weight.clone().permute([2, 3, 1, 0]).into_data()),
            bias: numbers(bias.clone().into_data()),
            kernel,
            stride,
        })))
    }

    pub(super) fn windows(&self, input: [usize; 4]) -> depthwise::Windows {
        depthwise::Windows {
            input,
            kernel: self.0.kernel,
            stride: self.0.stride,
        }
    }

    pub(super) fn weight(&self) -> &[f32] {
        &self.0.weight
    }

    pub(super) fn bias(&self) -> &[f32] {
        &self.0.bias
    }
}

fn numbers(data: TensorData) -> Vec<f32> {
    data.try_into_vec()
        .unwrap_or_else(|error| panic!("weights are single precision: {error:?}"))
}
