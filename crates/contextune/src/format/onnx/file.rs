//! Writing a graph as an ONNX file, one constant in memory at a time.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use prost::Message;

use super::OnnxError;
use super::graph::{Elements, Initializer};
use super::protobuf::{self, ElementType, TensorHeader};
use crate::checkpoint::Weights;
use crate::files;

/// Protocol Buffers cannot hold more bytes in one message, and ONNX Runtime refuses them.
const LARGEST_FILE: usize = i32::MAX as usize;

/// Writes the file; it appears under its name only when complete.
pub(super) fn write(
    path: &Path,
    model: &protobuf::Model,
    graph: &protobuf::Graph,
    initializers: &[Initializer],
    weights: &Weights,
) -> Result<(), OnnxError> {
    let initializers: Vec<Entry> = initializers.iter().map(Entry::new).collect();
    let graph_length = graph.encoded_len()
        + initializers
            .iter()
            .map(|entry| field_length(entry.length()))
            .sum::<usize>();
    let bytes = model.encoded_len() + field_length(graph_length);
    if bytes > LARGEST_FILE {
        return Err(OnnxError::TooLarge {
            path: path.to_owned(),
            bytes,
        });
    }
    files::replace(path, OnnxError::io(path), |file| {
        let mut file = BufWriter::new(file);
        let io = OnnxError::io(path);
        let mut head = model.encode_to_vec();
        head.extend(field(protobuf::MODEL_GRAPH, graph_length));
        head.extend(graph.encode_to_vec());
        file.write_all(&head).map_err(&io)?;
        for entry in &initializers {
            entry.write(&mut file, weights, &io)?;
        }
        file.flush().map_err(&io)
    })
}

/// A constant on its way into the file.
struct Entry<'a> {
    initializer: &'a Initializer,
    header: Vec<u8>,
    /// Bytes of its elements.
    bytes: usize,
}

impl<'a> Entry<'a> {
    fn new(initializer: &'a Initializer) -> Self {
        let Initializer {
            name,
            shape,
            elements,
        } = initializer;
        let element_type = match elements {
            Elements::Integers(_) => ElementType::Integer64,
            _ => ElementType::Float,
        };
        let header = TensorHeader {
            shape: shape.iter().map(|&size| size as i64).collect(),
            element_type: element_type as i32,
            name: name.clone(),
        };
        Self {
            initializer,
            header: header.encode_to_vec(),
            bytes: shape.iter().product::<usize>() * elements.size(),
        }
    }

    /// Bytes of the whole `TensorProto`.
    fn length(&self) -> usize {
        self.header.len() + field_length(self.bytes)
    }

    fn write(
        &self,
        file: &mut BufWriter<&File>,
        weights: &Weights,
        io: &impl Fn(std::io::Error) -> OnnxError,
    ) -> Result<(), OnnxError> {
        let mut head = field(protobuf::GRAPH_INITIALIZER, self.length());
        head.extend(&self.header);
        head.extend(field(protobuf::TENSOR_RAW_DATA, self.bytes));
        file.write_all(&head).map_err(io)?;
        let Initializer {
            name,
            shape,
            elements,
        } = self.initializer;
        let mut floats = |values: &[f32]| files::write_numbers(file, values, f32::to_le_bytes);
        match elements {
            Elements::Floats(values) => floats(values),
            Elements::Weight => floats(&weights.read(name)?),
            Elements::TransposedWeight => floats(&transpose(&weights.read(name)?, shape)),
            Elements::Integers(values) => files::write_numbers(file, values, i64::to_le_bytes),
        }
        .map_err(io)
    }
}

/// A row-major matrix with rows and columns exchanged; `shape` is that of the result.
fn transpose(values: &[f32], shape: &[usize]) -> Vec<f32> {
    let columns = shape.last().copied().unwrap_or(1);
    let rows = values.len() / columns.max(1);
    (0..rows)
        .flat_map(|row| (0..columns).map(move |column| values[column * rows + row]))
        .collect()
}

/// Tag and length of a field whose contents follow.
fn field(number: u8, length: usize) -> Vec<u8> {
    /// Wire type of fields that say their length.
    const LENGTH_DELIMITED: u8 = 2;
    let mut bytes = vec![number << 3 | LENGTH_DELIMITED];
    // A vector grows: there is always room.
    let _ = prost::encode_length_delimiter(length, &mut bytes);
    bytes
}

/// Bytes of a field with its tag and length.
fn field_length(length: usize) -> usize {
    1 + prost::length_delimiter_len(length) + length
}
