//! Golden values and how far from them a result is.
#![allow(dead_code, reason = "each test file uses its share")]

pub mod replay;

use std::path::PathBuf;
use std::process::Command;

use burn::tensor::{Device, Tensor, TensorData};
use contextune::backbone::Clip;
use contextune::input::Examples;
use contextune::model::{Model, ModelOptions};
use safetensors::{Dtype, SafeTensors};

/// Single against double precision through a tower of a few layers.
pub const TOLERANCE: f64 = 1e-4;

/// A file below `tests/golden`.
pub fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// A golden safetensors file in memory.
pub struct Golden {
    pub name: String,
    bytes: Vec<u8>,
}

impl Golden {
    pub fn open(name: &str) -> Self {
        let path = golden(name);
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let name = name.to_owned();
        Self { name, bytes }
    }

    pub fn metadata(&self, key: &str) -> String {
        let (_, header) = SafeTensors::read_metadata(&self.bytes).unwrap();
        header.metadata().as_ref().unwrap()[key].clone()
    }

    pub fn names(&self) -> Vec<String> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        file.names().into_iter().map(str::to_owned).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        self.names().iter().any(|other| other == name)
    }

    /// Elements in row-major order and shape.
    pub fn values(&self, name: &str) -> (Vec<f32>, Vec<usize>) {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(name).unwrap();
        assert_eq!(view.dtype(), Dtype::F32, "{name}");
        let values = view
            .data()
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        (values, view.shape().to_vec())
    }

    pub fn integers(&self, name: &str) -> Vec<i64> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(name).unwrap();
        match view.dtype() {
            Dtype::I32 => view
                .data()
                .chunks_exact(4)
                .map(|bytes| i32::from_le_bytes(bytes.try_into().unwrap()).into())
                .collect(),
            Dtype::I64 => view
                .data()
                .chunks_exact(8)
                .map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()))
                .collect(),
            other => panic!("{name} is {other:?}"),
        }
    }

    /// Rows of token ids, each cut after its end token (the largest id).
    pub fn prompts(&self, name: &str) -> Vec<Vec<u32>> {
        self.integers(name)
            .chunks_exact(77)
            .map(|ids| {
                let end = *ids.iter().max().unwrap();
                let length = ids.iter().position(|&id| id == end).unwrap() + 1;
                ids[..length].iter().map(|&id| id as u32).collect()
            })
            .collect()
    }

    /// Image features and labels whose names begin with `prefix`.
    pub fn labelled(&self, prefix: &str) -> Examples<usize> {
        let labels = self.integers(&format!("{prefix}labels"));
        let labels = labels.into_iter().map(|label| label as usize).collect();
        let (features, shape) = self.values(&format!("{prefix}image_features"));
        Examples::of_features(&features, shape[1], 1, labels)
    }

    pub fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let (values, shape) = self.values(name);
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    /// Asserts ‖actual − expected‖ ≤ tolerance · ‖expected‖.
    #[track_caller]
    pub fn assert_close<const D: usize>(&self, name: &str, actual: Tensor<D>, tolerance: f64) {
        let (expected, shape) = self.values(name);
        assert_eq!(actual.dims().to_vec(), shape, "shape of {name}");
        assert_values_close(name, &elements(actual), &expected, tolerance);
    }
}

pub fn elements<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.inner().into_data().try_to_vec().unwrap()
}

#[track_caller]
pub fn assert_values_close(what: &str, actual: &[f32], expected: &[f32], tolerance: f64) {
    let error = relative_error(actual, expected);
    assert!(
        error <= tolerance,
        "{what} is off by {error:.2e}, allowed {tolerance:.0e}"
    );
}

/// ‖a − b‖ / ‖b‖.
pub fn relative_error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    difference / norm(&mut b.iter().map(|&b| f64::from(b)))
}

/// The CLIP model in a golden file.
pub fn model(file: &str, device: &Device) -> Clip {
    let path = golden(file);
    let model = Model::open(path.to_str(), ModelOptions::default(), device, |_| ()).unwrap();
    model.clip().unwrap()
}

/// Runs a script of `tests-full-size` with the Python that `CONTEXTUNE_PYTHON` names (`tests-full-size/setup.sh` makes
/// and prints it). Without it nothing is run and the answer is false, except where `CI` is set: there it must not be
/// forgotten.
pub fn run_python(script: &str, arguments: &[PathBuf]) -> bool {
    let Some(python) = std::env::var_os("CONTEXTUNE_PYTHON") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must set CONTEXTUNE_PYTHON"
        );
        eprintln!("skipped: CONTEXTUNE_PYTHON is not set");
        return false;
    };
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests-full-size");
    let output = Command::new(python)
        .arg(folder.join(script))
        .args(arguments)
        .output()
        .unwrap();
    let remarks = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {remarks}");
    true
}
