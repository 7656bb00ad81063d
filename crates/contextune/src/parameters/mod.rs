//! What is learned, or stays frozen: tensors by name, where they come from, how they begin and which of them must be there.

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Gradients, Tensor, TensorData};

mod file;
mod initial;
mod source;
mod table;

pub(crate) use file::read_bounded;
pub use file::{TensorFileError, read_tensor};
pub use initial::{Initial, dropout};
pub use source::{Collector, ParameterSource};
pub use table::{ExpectedTensor, Size};

/// What is wrong with a set of parameters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParameterError {
    /// A tensor that is needed is not there.
    #[error("the tensor {name} is missing")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A tensor has another shape than is needed.
    #[error("the tensor {name} has shape {found:?}, needed is {expected}")]
    Shape {
        /// Its name.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// What is needed.
        expected: String,
    },
    /// A tensor that nothing here knows.
    #[error("the tensor {name} does not belong here")]
    Unexpected {
        /// Its name.
        name: String,
    },
    /// An element is infinite or not a number.
    #[error("element {element} of the tensor {name} is not a finite number")]
    NotFinite {
        /// Its name.
        name: String,
        /// The first such element, in row-major order.
        element: usize,
    },
    /// A tensor of another element type than 32-bit floats.
    #[error("the elements of {name} are {found}, not 32-bit floats")]
    NotFloat {
        /// Its name.
        name: String,
        /// Its element type.
        found: String,
    },
}

/// Returns the elements of a tensor that was computed in 32-bit floats, in row-major order; `name` is what it is called in
/// the error.
///
/// # Errors
/// [`ParameterError::NotFloat`]: the device computed in another type.
pub fn elements_of<const D: usize>(
    name: &str,
    tensor: Tensor<D>,
) -> Result<Vec<f32>, ParameterError> {
    let found = tensor.dtype();
    let not_float = || ParameterError::NotFloat {
        name: name.to_owned(),
        found: format!("{found:?}"),
    };
    match found {
        DType::F32 => tensor
            .inner()
            .into_data()
            .try_to_vec()
            .map_err(|_| not_float()),
        _ => Err(not_float()),
    }
}

/// Named tensors of any rank, in the order of their names.
///
/// The tensors of one training state are plain values; [`Parameters::tracked`] gives the leaves of one step's graph.
/// Constants belong to what was learned but are not trained.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    tensors: BTreeMap<String, Parameter>,
}

#[derive(Clone, Debug)]
struct Parameter {
    /// All elements in row-major order.
    flat: Tensor<1>,
    shape: Vec<usize>,
    constant: bool,
}

impl Parameters {
    /// Adds `tensor` or replaces what was there under this name.
    pub fn insert<const D: usize>(&mut self, name: &str, tensor: Tensor<D>) {
        let shape = tensor.dims().to_vec();
        let elements: usize = shape.iter().product();
        let parameter = Parameter {
            flat: tensor.reshape([elements]),
            shape,
            constant: false,
        };
        self.tensors.insert(name.to_owned(), parameter);
    }

    /// The same for a tensor that is not trained.
    pub fn insert_constant<const D: usize>(&mut self, name: &str, tensor: Tensor<D>) {
        self.insert(name, tensor);
        self.hold_constant(name);
    }

    /// From now on `name` is not trained.
    pub fn hold_constant(&mut self, name: &str) {
        if let Some(parameter) = self.tensors.get_mut(name) {
            parameter.constant = true;
        }
    }

    /// Adds a tensor from its elements in row-major order; their number must be the product of `shape`.
    pub fn insert_data(&mut self, name: &str, shape: &[usize], data: Vec<f32>, device: &Device) {
        let elements: usize = shape.iter().product();
        let flat = Tensor::from_data(TensorData::new(data, [elements]), device);
        let parameter = Parameter {
            flat,
            shape: shape.to_vec(),
            constant: false,
        };
        self.tensors.insert(name.to_owned(), parameter);
    }

    /// Names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of `name`, if it is there.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors
            .get(name)
            .map(|parameter| parameter.shape.as_slice())
    }

    /// Checks that `name` is there and has this shape.
    ///
    /// # Errors
    /// No such tensor, or one of another shape.
    pub fn require(&self, name: &str, shape: &[usize]) -> Result<(), ParameterError> {
        let found = self.require_any(name)?;
        match found == shape {
            true => Ok(()),
            false => Err(ParameterError::Shape {
                name: name.into(),
                found: found.to_vec(),
                expected: format!("{shape:?}"),
            }),
        }
    }

    /// Returns the shape of a tensor that must be there.
    ///
    /// # Errors
    /// No such tensor.
    pub fn require_any(&self, name: &str) -> Result<&[usize], ParameterError> {
        self.shape(name)
            .ok_or_else(|| ParameterError::Missing { name: name.into() })
    }

    fn parameter(&self, name: &str) -> Result<&Parameter, ParameterError> {
        self.tensors
            .get(name)
            .ok_or_else(|| ParameterError::Missing { name: name.into() })
    }

    /// Returns the tensor `name` with rank D.
    ///
    /// # Errors
    /// No such tensor, or one of another rank.
    pub fn get<const D: usize>(&self, name: &str) -> Result<Tensor<D>, ParameterError> {
        let parameter = self.parameter(name)?;
        let shape: [usize; D] =
            parameter
                .shape
                .clone()
                .try_into()
                .map_err(|found| ParameterError::Shape {
                    name: name.into(),
                    found,
                    expected: format!("{D} dimensions"),
                })?;
        Ok(parameter.flat.clone().reshape(shape))
    }

    /// Returns all elements of `name` in row-major order.
    ///
    /// # Errors
    /// No such tensor, or one that is not of 32-bit floats.
    pub fn data(&self, name: &str) -> Result<Vec<f32>, ParameterError> {
        elements_of(name, self.parameter(name)?.flat.clone())
    }

    /// Checks that every element is a finite number.
    ///
    /// # Errors
    /// The first tensor with an element that is not, or that cannot be read.
    pub fn check_finite(&self) -> Result<(), ParameterError> {
        for name in self.names() {
            let values = self.data(name)?;
            if let Some(element) = values.iter().position(|value| !value.is_finite()) {
                return Err(ParameterError::NotFinite {
                    name: name.to_owned(),
                    element,
                });
            }
        }
        Ok(())
    }

    /// Replaces every constant by the one of the same name in `others`.
    pub fn take_constants(&mut self, others: &Self) {
        for (name, parameter) in &mut self.tensors {
            if let Some(other) = others.tensors.get(name)
                && other.constant
            {
                *parameter = other.clone();
            }
        }
    }

    /// Whether `name` is there and not trained.
    pub fn is_constant(&self, name: &str) -> bool {
        self.tensors
            .get(name)
            .is_some_and(|parameter| parameter.constant)
    }

    /// Whether these are the leaves of a graph.
    pub fn track_gradients(&self) -> bool {
        self.tensors
            .values()
            .any(|parameter| parameter.flat.is_require_grad())
    }

    /// Number of trained elements in all tensors together.
    pub fn elements(&self) -> usize {
        self.tensors
            .values()
            .filter(|parameter| !parameter.constant)
            .map(|parameter| parameter.shape.iter().product::<usize>())
            .sum()
    }

    /// The same values as leaves that a backward pass will find gradients for; constants stay constants.
    pub fn tracked(&self) -> Self {
        let mut leaves = self.clone();
        for parameter in leaves.tensors.values_mut() {
            let plain = parameter.flat.clone().inner();
            parameter.flat = match parameter.constant {
                true => plain,
                false => plain.autodiff().require_grad(),
            };
        }
        leaves
    }

    /// Gradients of these leaves, flat, by name; leaves that the loss did not reach are left out.
    pub fn gradients(&self, gradients: &mut Gradients) -> BTreeMap<String, Tensor<1>> {
        self.tensors
            .iter()
            .filter_map(|(name, parameter)| {
                let gradient = parameter.flat.grad_remove(gradients)?;
                Some((name.clone(), gradient))
            })
            .collect()
    }

    /// Replaces each tensor by `change(name, shape, flat values)`.
    pub fn update(&mut self, mut change: impl FnMut(&str, &[usize], Tensor<1>) -> Tensor<1>) {
        for (name, parameter) in &mut self.tensors {
            parameter.flat = change(name, &parameter.shape, parameter.flat.clone());
        }
    }
}
