//! OpenAI's own files, and the architecture that shapes of weights under their names imply.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::{Error, Result};
use super::opened::{Checkpoint, Format, Normalization, OpenOptions};
use super::parameters;
use super::safetensors::{CONFIG_KEY, NORMALIZATION_KEY};
use super::shapes::Shapes;
use super::tensor::TensorTable;
use super::weights::{Source, Weights};
use crate::architecture::{
    Activation, ImageTowerConfig, ModelConfig, ResNetConfig, TextTowerConfig, VitConfig, VitFamily,
};
use crate::image::Preprocess;

/// Builds the checkpoint of a TorchScript archive or of a safetensors file under OpenAI's names.
///
/// Files that this library wrote carry their configuration; others have one that follows from the shapes, and
/// QuickGELU, which every model of OpenAI uses.
pub(super) fn open(
    path: &Path,
    format: Format,
    tensors: TensorTable,
    metadata: &BTreeMap<String, String>,
    options: OpenOptions,
) -> Result<Checkpoint> {
    let mut config = match metadata.get(CONFIG_KEY) {
        Some(json) => from_json(path, CONFIG_KEY, json)?,
        None => config_from_shapes(path, &tensors, Activation::QuickGelu, Heads::default())?,
    };
    if let Some(activation) = options.activation {
        config.activation = activation;
    }
    parameters::check_config(path, &config)?;
    let normalization = match metadata.get(NORMALIZATION_KEY) {
        Some(json) => from_json(path, NORMALIZATION_KEY, json)?,
        None => Normalization::OPENAI,
    };
    Ok(Checkpoint {
        preprocess: Preprocess::new(config.image.image_size() as u32),
        format,
        weights: Weights::assemble(path, &config, tensors, same_name)?,
        config,
        tokenizer_file: None,
        normalization,
        warnings: Vec::new(),
    })
}

fn from_json<T: serde::de::DeserializeOwned>(path: &Path, key: &str, json: &str) -> Result<T> {
    serde_json::from_str(json)
        .map_err(|error| Error::config(path, format!("its metadata {key} is malformed: {error}")))
}

/// Finds every weight under its own name.
pub(super) fn same_name(name: &str) -> Source {
    Source::named(name)
}

/// Numbers of attention heads where a file's configuration says them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heads {
    pub(super) image: Option<usize>,
    pub(super) text: Option<usize>,
}

/// Returns the architecture that the shapes of weights under OpenAI's names imply.
///
/// Shapes do not tell the number of heads: without `heads` a head is 64 wide, except in OpenCLIP's largest vision
/// transformers.
pub(super) fn config_from_shapes(
    path: &Path,
    tensors: &TensorTable,
    activation: Activation,
    heads: Heads,
) -> Result<ModelConfig> {
    let shapes = Shapes { path, tensors };
    let [text_width, embedding_width] = shapes.of("text_projection")?;
    let [context_length, _] = shapes.of("positional_embedding")?;
    let [vocabulary_size, _] = shapes.of("token_embedding.weight")?;
    let image = if tensors.contains_key("visual.layer1.0.conv1.weight") {
        let [width, ..] = shapes.of::<4>("visual.layer1.0.conv1.weight")?;
        let [positions, _] = shapes.of("visual.attnpool.positional_embedding")?;
        ImageTowerConfig::ResNet(ResNetConfig {
            image_size: shapes
                .side("visual.attnpool.positional_embedding", positions)?
                .saturating_mul(32),
            width,
            blocks: [1, 2, 3, 4].map(|stage| shapes.count(&format!("visual.layer{stage}."))),
            heads: match heads.image {
                Some(heads) => heads,
                None => shapes.heads("image", width.saturating_mul(32))?,
            },
        })
    } else {
        let [width, _, patch_size, _] = shapes.of("visual.conv1.weight")?;
        let [positions, _] = shapes.of("visual.positional_embedding")?;
        ImageTowerConfig::Vit(VitConfig {
            image_size: patch_size
                .saturating_mul(shapes.side("visual.positional_embedding", positions)?),
            patch_size,
            width,
            layers: shapes.count("visual.transformer.resblocks."),
            heads: match (heads.image, width) {
                (Some(heads), _) => heads,
                // ViT-H-14, -g-14, -bigG-14, -e-14: heads of 80, 88, 104, 112 (open_clip, model_configs).
                (None, 1280 | 1408 | 1664 | 1792) => 16,
                (None, _) => shapes.heads("image", width)?,
            },
            family: VitFamily::Clip,
        })
    };
    Ok(ModelConfig {
        embedding_width,
        activation,
        image,
        text: Some(TextTowerConfig {
            context_length,
            vocabulary_size,
            width: text_width,
            layers: shapes.count("transformer.resblocks."),
            heads: match heads.text {
                Some(heads) => heads,
                None => shapes.heads("text", text_width)?,
            },
        }),
        pretrained_classes: None,
    })
}
