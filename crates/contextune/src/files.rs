//! What every file of ours has in common.

use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// The elements of the tensor `name`, in row-major order, all of them finite; the error says what is wrong with it.
pub(crate) fn finite_values(name: &str, view: &TensorView<'_>) -> Result<Vec<f32>, String> {
    if view.dtype() != Dtype::F32 {
        return Err(format!("{name} is {:?}, not F32", view.dtype()));
    }
    let (chunks, _) = view.data().as_chunks::<4>();
    let values: Vec<f32> = chunks
        .iter()
        .map(|&bytes| f32::from_le_bytes(bytes))
        .collect();
    match values.iter().position(|value| !value.is_finite()) {
        Some(element) => Err(format!(
            "element {element} of {name} is not a finite number"
        )),
        None => Ok(values),
    }
}
