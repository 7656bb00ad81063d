//! A finished classifier as an ONNX model, for ONNX Runtime and everything else that reads ONNX.
//!
//! Image tower, pixel normalisation and classifier are one graph of standard operators (operator set 17):
//!
//! | | name | shape | |
//! | --- | --- | --- | --- |
//! | input | `pixels` | `[batch, 3, size, size]` | red, green, blue in `[0, 1]`, resized and cropped |
//! | output | `logits` | `[batch, K]` | exp(logit scale) · cosine with each class |
//! | output | `image_features` | `[batch, D]` | not of unit length |
//!
//! All of them are 32-bit floats, and so are the weights. The metadata has `classnames`, a JSON list.

use std::io;
use std::path::{Path, PathBuf};

use self::graph::{Graph, Value};
use self::protobuf::{Attribute, Entry, OperatorSet, ValueInfo};
use super::classifier::unit_columns;
use crate::checkpoint::{self, Normalization};
use crate::model::Model;

mod file;
mod graph;
mod image_tower;
mod protobuf;

/// Version of the file format that goes with the operator set.
const IR_VERSION: i64 = 8;
/// The first with layer normalisation; what has come since is not needed.
const OPERATOR_SET: i64 = 17;

const PIXELS: &str = "pixels";
const LOGITS: &str = "logits";
const IMAGE_FEATURES: &str = "image_features";
const CLASS_NAMES: &str = "classnames";
const PREPROCESS: &str = "preprocess";

/// Why a classifier cannot be written as ONNX.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The file cannot be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A weight of the model cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// An image tower that this format does not write.
    #[error("only the image towers of CLIP models are written as ONNX")]
    NotOfClip,
    /// Class features that make no classifier of this model.
    #[error("the class features make no classifier: {problem}")]
    ClassFeatures {
        /// What is wrong with them.
        problem: String,
    },
    /// More bytes than an ONNX file can hold.
    #[error(
        "{}: the classifier takes {bytes} bytes, and an ONNX file holds at most 2 GB; use a model with a smaller image tower",
        path.display()
    )]
    TooLarge {
        /// The file that was to be written.
        path: PathBuf,
        /// Bytes that it would take.
        bytes: usize,
    },
}

impl OnnxError {
    fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            path: path.clone(),
            source,
        }
    }
}

/// Writes the image tower of `model` with a classifier of these classes; the file appears under its name only when
/// complete.
///
/// `class_features` `[K, D]`, row-major, need not be of unit length; `class_names` are the K classes in their order.
/// Weights are read one at a time.
///
/// # Errors
/// Features that do not fit the classes or have no direction; a file above 2 GB; what reading and writing bring.
pub fn write(
    path: &Path,
    model: &Model,
    class_features: &[f32],
    class_names: &[String],
) -> Result<(), OnnxError> {
    let config = model.config();
    let classes = class_names.len();
    let width = config.embedding_width;
    let classifier = unit_columns(class_features, classes, width)
        .map_err(|problem| OnnxError::ClassFeatures { problem })?;

    let mut graph = Graph::new(model.weights());
    let pixels = normalised(
        &mut graph,
        &Value(PIXELS.into()),
        model.normalization_values(),
    );
    let features = image_tower::forward(&mut graph, config, &pixels).ok_or(OnnxError::NotOfClip)?; // [B, D]
    graph.output(&features, IMAGE_FEATURES);
    let length = graph.apply(
        "ReduceL2",
        &[&features],
        &[Attribute::integers("axes", &[1])],
    ); // [B, 1]
    let unit = graph.binary("Div", &features, &length);
    let classifier = graph.floats(&[width, classes], classifier); // [D, K]
    let cosine = graph.binary("MatMul", &unit, &classifier); // [B, K]
    let scale = graph.weight("logit_scale"); // []
    let factor = graph.apply("Exp", &[&scale], &[]);
    let logits = graph.binary("Mul", &cosine, &factor);
    graph.output(&logits, LOGITS);

    let size = config.image.image_size();
    let contents = protobuf::Graph {
        nodes: std::mem::take(&mut graph.nodes),
        name: "classifier".into(),
        inputs: vec![ValueInfo::batch_of(PIXELS, &[3, size, size])],
        outputs: vec![
            ValueInfo::batch_of(LOGITS, &[classes]),
            ValueInfo::batch_of(IMAGE_FEATURES, &[width]),
        ],
    };
    let head = protobuf::Model {
        ir_version: IR_VERSION,
        producer_name: env!("CARGO_PKG_NAME").into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        operator_sets: vec![OperatorSet {
            domain: String::new(),
            version: OPERATOR_SET,
        }],
        metadata: vec![
            Entry {
                key: CLASS_NAMES.into(),
                value: serde_json::json!(class_names).to_string(),
            },
            Entry {
                key: PREPROCESS.into(),
                value: serde_json::json!(model.preprocess(size)).to_string(),
            },
        ],
    };
    file::write(path, &head, &contents, &graph.initializers, model.weights())
}

/// (pixels − mean) / standard deviation of each channel.
fn normalised(graph: &mut Graph, pixels: &Value, normalization: Normalization) -> Value {
    let mean = graph.floats(&[1, 3, 1, 1], normalization.mean.to_vec());
    let deviation = graph.floats(&[1, 3, 1, 1], normalization.std.to_vec());
    let centred = graph.binary("Sub", pixels, &mean);
    graph.binary("Div", &centred, &deviation)
}
