//! What is being trained: tensors by name.

use std::collections::BTreeMap;

use burn::tensor::{Device, Gradients, Tensor, TensorData};

use super::TrainError;
use crate::backbone::ParameterSource;

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

    /// That `name` is there and has this shape.
    ///
    /// # Errors
    /// No such tensor, or one of another shape.
    pub fn require(&self, name: &str, shape: &[usize]) -> Result<(), TrainError> {
        match self.shape(name) {
            None => Err(TrainError::MissingParameter { name: name.into() }),
            Some(found) if found != shape => Err(TrainError::ParameterShape {
                name: name.into(),
                found: found.to_vec(),
                expected: format!("{shape:?}"),
            }),
            Some(_) => Ok(()),
        }
    }

    /// The tensor `name` with rank D.
    ///
    /// # Errors
    /// No such tensor, or one of another rank.
    pub fn get<const D: usize>(&self, name: &str) -> Result<Tensor<D>, TrainError> {
        let parameter = self
            .tensors
            .get(name)
            .ok_or_else(|| TrainError::MissingParameter { name: name.into() })?;
        let shape: [usize; D] =
            parameter
                .shape
                .clone()
                .try_into()
                .map_err(|found| TrainError::ParameterShape {
                    name: name.into(),
                    found,
                    expected: format!("{D} dimensions"),
                })?;
        Ok(parameter.flat.clone().reshape(shape))
    }

    /// All elements of `name` in row-major order, if it is there.
    pub fn data(&self, name: &str) -> Option<Vec<f32>> {
        let parameter = self.tensors.get(name)?;
        parameter.flat.clone().inner().into_data().try_to_vec().ok()
    }

    /// Whether every element is a finite number.
    pub fn are_finite(&self) -> bool {
        self.names().all(|name| {
            let values = self.data(name).unwrap_or_default();
            values.iter().all(|value| value.is_finite())
        })
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

/// A tower built from parameters trains: gradients of its outputs reach the leaves.
impl ParameterSource for &Parameters {
    type Error = TrainError;

    fn parameter<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Tensor<D>, TrainError> {
        let tensor = self.get::<D>(name)?;
        if tensor.dims() != shape {
            return Err(TrainError::ParameterShape {
                name: name.into(),
                found: tensor.dims().to_vec(),
                expected: format!("{shape:?}"),
            });
        }
        Ok(tensor)
    }
}

/// Passes parameters through from `source` and keeps them by name: building a tower from it collects all it has.
#[derive(Debug)]
pub struct Collector<S> {
    source: S,
    parameters: Parameters,
}

impl<S: ParameterSource> Collector<S> {
    /// Nothing collected yet.
    pub fn new(source: S) -> Self {
        Self {
            source,
            parameters: Parameters::default(),
        }
    }

    /// What was asked for so far.
    pub fn into_parameters(self) -> Parameters {
        self.parameters
    }
}

impl<S: ParameterSource> ParameterSource for Collector<S> {
    type Error = S::Error;

    fn parameter<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Tensor<D>, S::Error> {
        let tensor = self.source.parameter(name, shape)?;
        self.parameters.insert(name, tensor.clone());
        Ok(tensor)
    }
}
