//! A graph in the making: operators and the constants they need, weights by name only.

use super::protobuf::{Attribute, Node};
use crate::checkpoint::Weights;

/// Something computed or constant in the graph, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value(pub(super) String);

/// A constant of the graph.
#[derive(Debug)]
pub(super) struct Initializer {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) elements: Elements,
}

/// Elements of a constant.
#[derive(Debug)]
pub(super) enum Elements {
    /// The weight of the constant's name, to be read when it is written.
    Weight,
    /// The same for a matrix, with rows and columns exchanged.
    TransposedWeight,
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

impl Elements {
    /// Bytes of one element.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Weight | Self::TransposedWeight | Self::Floats(_) => 4,
            Self::Integers(_) => 8,
        }
    }
}

/// Operators in the order in which they run; each method adds one and answers with its result.
///
/// Operators and their attributes are ONNX's, operator set 17 (`Operators.md` in onnx/onnx).
pub(super) struct Graph<'a> {
    weights: &'a Weights,
    pub(super) nodes: Vec<Node>,
    pub(super) initializers: Vec<Initializer>,
}

impl<'a> Graph<'a> {
    /// Nothing yet.
    pub(super) fn new(weights: &'a Weights) -> Self {
        Self {
            weights,
            nodes: Vec::new(),
            initializers: Vec::new(),
        }
    }

    /// An operator with one result.
    pub(super) fn apply(
        &mut self,
        operator: &str,
        inputs: &[&Value],
        attributes: &[Attribute],
    ) -> Value {
        let [output] = self.apply_for(operator, inputs, attributes);
        output
    }

    /// An operator with N results.
    pub(super) fn apply_for<const N: usize>(
        &mut self,
        operator: &str,
        inputs: &[&Value],
        attributes: &[Attribute],
    ) -> [Value; N] {
        let name = format!("{operator}_{}", self.nodes.len());
        let outputs: [Value; N] = std::array::from_fn(|index| match N {
            1 => Value(name.clone()),
            _ => Value(format!("{name}_{index}")),
        });
        self.push(operator, name, inputs, attributes, &outputs);
        outputs
    }

    /// Gives a value the name of a graph's output.
    pub(super) fn output(&mut self, value: &Value, name: &str) {
        let output = Value(name.to_owned());
        self.push("Identity", name.to_owned(), &[value], &[], &[output]);
    }

    fn push(
        &mut self,
        operator: &str,
        name: String,
        inputs: &[&Value],
        attributes: &[Attribute],
        outputs: &[Value],
    ) {
        self.nodes.push(Node {
            inputs: inputs.iter().map(|input| input.0.clone()).collect(),
            outputs: outputs.iter().map(|output| output.0.clone()).collect(),
            name,
            operator: operator.into(),
            attributes: attributes.to_vec(),
        });
    }

    /// The weight of this name, in its own shape.
    pub(super) fn weight(&mut self, name: &str) -> Value {
        let shape = self.shape(name);
        self.constant(name.to_owned(), shape, Elements::Weight)
    }

    /// The weight matrix of this name with rows and columns exchanged: `[outputs, inputs]` -> `[inputs, outputs]`.
    pub(super) fn transposed_weight(&mut self, name: &str) -> Value {
        let mut shape = self.shape(name);
        shape.reverse();
        self.constant(name.to_owned(), shape, Elements::TransposedWeight)
    }

    /// Shape of a weight. One that is missing is an error when its elements are read.
    fn shape(&self, name: &str) -> Vec<usize> {
        self.weights.shape(name).unwrap_or_default().to_vec()
    }

    /// Floating-point numbers, row-major.
    pub(super) fn floats(&mut self, shape: &[usize], values: Vec<f32>) -> Value {
        let name = format!("floats_{}", self.initializers.len());
        self.constant(name, shape.to_vec(), Elements::Floats(values))
    }

    /// One number, which broadcasts.
    pub(super) fn number(&mut self, value: f32) -> Value {
        self.floats(&[], vec![value])
    }

    /// A list of integers, such as a shape.
    pub(super) fn integers(&mut self, values: &[i64]) -> Value {
        let name = format!("integers_{}", self.initializers.len());
        let elements = Elements::Integers(values.to_vec());
        self.constant(name, vec![values.len()], elements)
    }

    fn constant(&mut self, name: String, shape: Vec<usize>, elements: Elements) -> Value {
        let value = Value(name.clone());
        self.initializers.push(Initializer {
            name,
            shape,
            elements,
        });
        value
    }

    /// Of two values that broadcast to one shape, or of matrices: `Add`, `Sub`, `Mul`, `Div`, `MatMul`.
    pub(super) fn binary(&mut self, operator: &str, left: &Value, right: &Value) -> Value {
        self.apply(operator, &[left, right], &[])
    }

    /// The same elements in another shape: 0 keeps the size of an axis, −1 takes what is left.
    pub(super) fn reshape(&mut self, value: &Value, shape: &[i64]) -> Value {
        let shape = self.integers(shape);
        self.apply("Reshape", &[value, &shape], &[])
    }

    /// The axes in another order.
    pub(super) fn transpose(&mut self, value: &Value, order: &[i64]) -> Value {
        self.apply("Transpose", &[value], &[Attribute::integers("perm", order)])
    }

    /// One after the other on an axis.
    pub(super) fn concatenate(&mut self, values: &[&Value], axis: i64) -> Value {
        self.apply("Concat", values, &[Attribute::integer("axis", axis)])
    }

    /// The first place of an axis, which stays, with size 1.
    pub(super) fn first(&mut self, value: &Value, axis: i64) -> Value {
        let index = self.integers(&[0]);
        let axis = Attribute::integer("axis", axis);
        self.apply("Gather", &[value, &index], &[axis])
    }
}
