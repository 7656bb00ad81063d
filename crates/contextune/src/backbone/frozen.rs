//! Weights that never change, packed for the products that they take part in.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Tensor, TensorData};

use contextune_kernel::product::PackedMatrix;

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
    /// `weight` `[outputs, inputs]` as PyTorch stores it, `bias` `[outputs]`; `None` if one of them is being learned.
    pub(super) fn new(weight: &Tensor<2>, bias: &Tensor<1>) -> Option<Self> {
        if weight.is_tracked() || bias.is_tracked() {
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

fn numbers(data: TensorData) -> Vec<f32> {
    data.try_into_vec()
        .unwrap_or_else(|error| panic!("weights are single precision: {error:?}"))
}
