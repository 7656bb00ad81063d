//! OpenAI's names: what every weight is called here, the architecture that shapes imply, and OpenAI's own files.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::{Error, Result};
use super::tensor::TensorTable;
use super::weights::{Source, Weights};
use super::{CONFIG_KEY, Checkpoint, Format, NORMALIZATION_KEY, Normalization, OpenOptions};
use crate::backbone::{
    Activation, ClipConfig, ImageTowerConfig, ResNetConfig, TextTowerConfig, VitConfig,
};

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
    check_config(path, &config)?;
    let normalization = match metadata.get(NORMALIZATION_KEY) {
        Some(json) => from_json(path, NORMALIZATION_KEY, json)?,
        None => Normalization::OPENAI,
    };
    Ok(Checkpoint {
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

/// Every weight under its own name.
pub(super) fn same_name(name: &str) -> Source {
    Source {
        names: vec![name.to_owned()],
        transposed: false,
    }
}

/// Name and shape of every weight of a model, sorted by name.
pub(super) fn parameters(config: &ClipConfig) -> Vec<(String, Vec<usize>)> {
    let text = &config.text;
    let mut list = vec![
        ("logit_scale".to_owned(), vec![]),
        (
            "positional_embedding".to_owned(),
            vec![text.context_length, text.width],
        ),
        (
            "text_projection".to_owned(),
            vec![text.width, config.embedding_width],
        ),
        (
            "token_embedding.weight".to_owned(),
            vec![text.vocabulary_size, text.width],
        ),
    ];
    affine(&mut list, "ln_final", text.width);
    blocks(&mut list, "transformer", text.layers, text.width);
    match &config.image {
        ImageTowerConfig::Vit(vit) => vit_parameters(&mut list, vit, config.embedding_width),
        ImageTowerConfig::ResNet(resnet) => {
            resnet_parameters(&mut list, resnet, config.embedding_width);
        }
    }
    list.sort();
    list
}

type ParameterList = Vec<(String, Vec<usize>)>;

fn vit_parameters(list: &mut ParameterList, vit: &VitConfig, embedding_width: usize) {
    let (width, patch) = (vit.width, vit.patch_size);
    let patches = (vit.image_size / patch).pow(2);
    list.extend([
        ("visual.class_embedding".to_owned(), vec![width]),
        (
            "visual.conv1.weight".to_owned(),
            vec![width, 3, patch, patch],
        ),
        (
            "visual.positional_embedding".to_owned(),
            vec![patches + 1, width],
        ),
        ("visual.proj".to_owned(), vec![width, embedding_width]),
    ]);
    affine(list, "visual.ln_pre", width);
    affine(list, "visual.ln_post", width);
    blocks(list, "visual.transformer", vit.layers, width);
}

fn blocks(list: &mut ParameterList, tower: &str, layers: usize, width: usize) {
    for layer in 0..layers {
        let block = format!("{tower}.resblocks.{layer}");
        list.extend([
            (
                format!("{block}.attn.in_proj_weight"),
                vec![3 * width, width],
            ),
            (format!("{block}.attn.in_proj_bias"), vec![3 * width]),
        ]);
        linear(list, &format!("{block}.attn.out_proj"), width, width);
        affine(list, &format!("{block}.ln_1"), width);
        affine(list, &format!("{block}.ln_2"), width);
        linear(list, &format!("{block}.mlp.c_fc"), width, 4 * width);
        linear(list, &format!("{block}.mlp.c_proj"), 4 * width, width);
    }
}

fn resnet_parameters(list: &mut ParameterList, resnet: &ResNetConfig, embedding_width: usize) {
    let width = resnet.width;
    let stem = [(3, width / 2), (width / 2, width / 2), (width / 2, width)];
    for (index, (input, output)) in stem.into_iter().enumerate() {
        let number = index + 1;
        convolution(list, &format!("visual.conv{number}"), input, output, 3);
        batch_norm(list, &format!("visual.bn{number}"), output);
    }
    let mut input = width;
    for (stage, &count) in resnet.blocks.iter().enumerate() {
        let inner = width << stage;
        for index in 0..count {
            let block = format!("visual.layer{}.{index}", stage + 1);
            let convolutions = [(input, inner, 1), (inner, inner, 3), (inner, 4 * inner, 1)];
            for (index, (input, output, kernel)) in convolutions.into_iter().enumerate() {
                let number = index + 1;
                convolution(
                    list,
                    &format!("{block}.conv{number}"),
                    input,
                    output,
                    kernel,
                );
                batch_norm(list, &format!("{block}.bn{number}"), output);
            }
            if index == 0 {
                convolution(list, &format!("{block}.downsample.0"), input, 4 * inner, 1);
                batch_norm(list, &format!("{block}.downsample.1"), 4 * inner);
            }
            input = 4 * inner;
        }
    }
    let pooled = 32 * width;
    let cells = (resnet.image_size / 32).pow(2);
    list.push((
        "visual.attnpool.positional_embedding".to_owned(),
        vec![cells + 1, pooled],
    ));
    for projection in ["q_proj", "k_proj", "v_proj"] {
        linear(
            list,
            &format!("visual.attnpool.{projection}"),
            pooled,
            pooled,
        );
    }
    linear(list, "visual.attnpool.c_proj", pooled, embedding_width);
}

fn linear(list: &mut ParameterList, name: &str, input: usize, output: usize) {
    list.push((format!("{name}.weight"), vec![output, input]));
    list.push((format!("{name}.bias"), vec![output]));
}

fn affine(list: &mut ParameterList, name: &str, width: usize) {
    list.push((format!("{name}.weight"), vec![width]));
    list.push((format!("{name}.bias"), vec![width]));
}

fn batch_norm(list: &mut ParameterList, name: &str, width: usize) {
    affine(list, name, width);
    list.push((format!("{name}.running_mean"), vec![width]));
    list.push((format!("{name}.running_var"), vec![width]));
}

fn convolution(list: &mut ParameterList, name: &str, input: usize, output: usize, kernel: usize) {
    list.push((
        format!("{name}.weight"),
        vec![output, input, kernel, kernel],
    ));
}

/// Whether a tensor of a published file is no weight: counters, index and mask buffers, OpenAI's three sizes.
pub(super) fn is_no_weight(name: &str) -> bool {
    is_openai_size(name)
        || ["num_batches_tracked", "position_ids", "attn_mask"]
            .iter()
            .any(|buffer| name.rsplit('.').next() == Some(buffer))
}

/// Whether the name is one of the integers that only OpenAI's files have beside the weights.
pub(super) fn is_openai_size(name: &str) -> bool {
    matches!(name, "input_resolution" | "context_length" | "vocab_size")
}

/// Numbers of attention heads where a file's configuration says them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heads {
    pub(super) image: Option<usize>,
    pub(super) text: Option<usize>,
}

/// The architecture that the shapes of weights under OpenAI's names imply.
///
/// Shapes do not tell the number of heads: without `heads` a head is 64 wide, except in OpenCLIP's largest vision
/// transformers.
pub(super) fn config_from_shapes(
    path: &Path,
    tensors: &TensorTable,
    activation: Activation,
    heads: Heads,
) -> Result<ClipConfig> {
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
        })
    };
    Ok(ClipConfig {
        embedding_width,
        activation,
        image,
        text: TextTowerConfig {
            context_length,
            vocabulary_size,
            width: text_width,
            layers: shapes.count("transformer.resblocks."),
            heads: match heads.text {
                Some(heads) => heads,
                None => shapes.heads("text", text_width)?,
            },
        },
    })
}

struct Shapes<'a> {
    path: &'a Path,
    tensors: &'a TensorTable,
}

impl Shapes<'_> {
    /// Shape of a tensor that must have `N` axes.
    fn of<const N: usize>(&self, name: &str) -> Result<[usize; N]> {
        let tensor = self.tensors.get(name).ok_or_else(|| Error::MissingTensor {
            path: self.path.to_owned(),
            name: name.to_owned(),
        })?;
        tensor.shape().try_into().map_err(|_| {
            Error::config(
                self.path,
                format!(
                    "the tensor {name} has shape {:?} where one with {N} axes is expected",
                    tensor.shape()
                ),
            )
        })
    }

    /// One more than the largest number that follows `prefix` in a name.
    fn count(&self, prefix: &str) -> usize {
        self.tensors
            .range(prefix.to_owned()..)
            .map_while(|(name, _)| name.strip_prefix(prefix))
            .filter_map(|rest| rest.split('.').next()?.parse::<usize>().ok())
            .max()
            .map_or(0, |last| last.saturating_add(1))
    }

    /// Side of the square grid that, with one more position, makes `positions`.
    fn side(&self, name: &str, positions: usize) -> Result<usize> {
        let cells = positions.saturating_sub(1);
        let side = cells.isqrt();
        if side == 0 || side * side != cells {
            return Err(Error::config(
                self.path,
                format!("{name} has {positions} rows, which is not one more than a square"),
            ));
        }
        Ok(side)
    }

    fn heads(&self, tower: &str, width: usize) -> Result<usize> {
        if width == 0 || !width.is_multiple_of(64) {
            return Err(Error::config(
                self.path,
                format!(
                    "the {tower} tower is {width} wide, which is not a multiple of 64, so the number of its attention \
                     heads is not known; a configuration is needed"
                ),
            ));
        }
        Ok(width / 64)
    }
}

/// Refuses sizes that no model has, before anything is computed from them; `path` is where they were read.
pub fn check_config(path: &Path, config: &ClipConfig) -> Result<()> {
    let within = |what: &str, value: usize, most: usize| {
        if (1..=most).contains(&value) {
            Ok(())
        } else {
            Err(Error::config(
                path,
                format!("the model's {what} is {value}; 1 to {most} is expected"),
            ))
        }
    };
    let divides = |part: &str, divisor: usize, whole: &str, value: usize| {
        if divisor > 0 && value.is_multiple_of(divisor) {
            Ok(())
        } else {
            Err(Error::config(
                path,
                format!("the model's {whole} {value} is not a multiple of its {part} {divisor}"),
            ))
        }
    };
    within("embedding width", config.embedding_width, 1 << 16)?;
    let text = &config.text;
    within("context length", text.context_length, 1 << 16)?;
    within("vocabulary size", text.vocabulary_size, 1 << 24)?;
    within("number of text layers", text.layers, 1 << 10)?;
    within("text width", text.width, 1 << 16)?;
    divides("number of text heads", text.heads, "text width", text.width)?;
    within("image size", config.image.image_size(), 1 << 13)?;
    match &config.image {
        ImageTowerConfig::Vit(vit) => {
            within("number of image layers", vit.layers, 1 << 10)?;
            within("image width", vit.width, 1 << 16)?;
            divides("number of image heads", vit.heads, "image width", vit.width)?;
            divides("patch size", vit.patch_size, "image size", vit.image_size)
        }
        ImageTowerConfig::ResNet(resnet) => {
            for blocks in resnet.blocks {
                within("number of blocks in a stage", blocks, 1 << 10)?;
            }
            within("ResNet width", resnet.width, 1 << 12)?;
            divides("halved stem", 2, "ResNet width", resnet.width)?;
            let pooled = 32 * resnet.width;
            divides("number of heads", resnet.heads, "pooled width", pooled)?;
            divides("total stride", 32, "image size", resnet.image_size)
        }
    }
}
