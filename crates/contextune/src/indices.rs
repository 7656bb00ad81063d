//! Row numbers as a tensor.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// `[N]`, to select or gather by.
pub(crate) fn indices(values: impl IntoIterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.into_iter().map(|value| value as i64).collect();
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), device)
}
