//! The messages of an ONNX file that are needed, with the field numbers of `onnx.proto` (IR version 8).
//!
//! Two fields are left out because they hold everything that is large, and are written piece by piece: a model's graph
//! and a graph's initializers.

use prost::Message;

/// Field of `ModelProto` that holds its `GraphProto`.
pub(super) const MODEL_GRAPH: u8 = 7;
/// Field of `GraphProto` that holds each of its constants, a `TensorProto`.
pub(super) const GRAPH_INITIALIZER: u8 = 5;
/// Field of `TensorProto` that holds the elements, little-endian, row-major.
pub(super) const TENSOR_RAW_DATA: u8 = 9;

/// `ModelProto` without its graph.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Model {
    #[prost(int64, tag = "1")]
    pub(super) ir_version: i64,
    #[prost(string, tag = "2")]
    pub(super) producer_name: String,
    #[prost(string, tag = "3")]
    pub(super) producer_version: String,
    #[prost(message, repeated, tag = "8")]
    pub(super) operator_sets: Vec<OperatorSet>,
    #[prost(message, repeated, tag = "14")]
    pub(super) metadata: Vec<Entry>,
}

/// `OperatorSetIdProto`
#[derive(Clone, PartialEq, Message)]
pub(super) struct OperatorSet {
    /// Empty: ONNX's own operators.
    #[prost(string, tag = "1")]
    pub(super) domain: String,
    #[prost(int64, tag = "2")]
    pub(super) version: i64,
}

/// `StringStringEntryProto`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Entry {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

/// `GraphProto` without its initializers.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub(super) nodes: Vec<Node>,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "11")]
    pub(super) inputs: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    pub(super) outputs: Vec<ValueInfo>,
}

/// `NodeProto`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub(super) inputs: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(super) outputs: Vec<String>,
    #[prost(string, tag = "3")]
    pub(super) name: String,
    #[prost(string, tag = "4")]
    pub(super) operator: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) attributes: Vec<Attribute>,
}

/// `AttributeProto`
#[derive(Clone, PartialEq, Message)]
pub(super) struct Attribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(float, optional, tag = "2")]
    float_value: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    integer_value: Option<i64>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    integer_values: Vec<i64>,
    /// Which of the above: 1 float, 2 integer, 7 integers.
    #[prost(int32, tag = "20")]
    kind: i32,
}

impl Attribute {
    pub(super) fn float(name: &str, value: f32) -> Self {
        Self {
            name: name.into(),
            float_value: Some(value),
            kind: 1,
            ..Self::default()
        }
    }

    pub(super) fn integer(name: &str, value: i64) -> Self {
        Self {
            name: name.into(),
            integer_value: Some(value),
            kind: 2,
            ..Self::default()
        }
    }

    pub(super) fn integers(name: &str, values: &[i64]) -> Self {
        Self {
            name: name.into(),
            integer_values: values.to_vec(),
            kind: 7,
            ..Self::default()
        }
    }
}

/// Numbers of the element types in `TensorProto.DataType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ElementType {
    Float = 1,
    Integer64 = 7,
}

/// `TensorProto` without its elements.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorHeader {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub(super) shape: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(super) element_type: i32,
    #[prost(string, tag = "8")]
    pub(super) name: String,
}

/// `ValueInfoProto`: an input or output.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value_type: Option<ValueType>,
}

/// `TypeProto`
#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorType>,
}

/// `TypeProto.Tensor`
#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    element_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

/// `TensorShapeProto`
#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dimensions: Vec<Dimension>,
}

/// `TensorShapeProto.Dimension`: a size or the name of one that the caller chooses.
#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, optional, tag = "1")]
    size: Option<i64>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
}

impl ValueInfo {
    /// 32-bit floats of shape `[batch, sizes…]`.
    pub(super) fn batch_of(name: &str, sizes: &[usize]) -> Self {
        let batch = Dimension {
            size: None,
            name: Some("batch".into()),
        };
        let sizes = sizes.iter().map(|&size| Dimension {
            size: Some(size as i64),
            name: None,
        });
        let tensor = TensorType {
            element_type: ElementType::Float as i32,
            shape: Some(Shape {
                dimensions: std::iter::once(batch).chain(sizes).collect(),
            }),
        };
        Self {
            name: name.into(),
            value_type: Some(ValueType {
                tensor: Some(tensor),
            }),
        }
    }
}
