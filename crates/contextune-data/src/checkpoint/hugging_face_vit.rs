//! Vision transformers of Hugging Face without a text tower: `ViTModel`, `DeiTModel`, `Dinov2Model` and their image
//! classifiers.

use std::path::Path;

use serde::Deserialize;

use super::error::{Error, Result};
use super::folder::read_json;
use super::hugging_face_preprocessor::{self, Prepared, Processor};
use super::opened::{Checkpoint, Format, OpenOptions};
use super::parameters;
use super::tensor::TensorTable;
use super::weights::{Axes, Source, Weights};
use crate::architecture::{
    Activation, ImageTowerConfig, ModelConfig, PlainVit, PositionResizing, VitConfig, VitFamily,
};

/// `config.json`. What is absent has the default of `transformers`.
#[derive(Deserialize)]
struct Config {
    model_type: String,
    #[serde(default = "default_image_size")]
    image_size: usize,
    #[serde(default = "default_patch_size")]
    patch_size: usize,
    #[serde(default = "default_width")]
    hidden_size: usize,
    #[serde(default = "default_layers")]
    num_hidden_layers: usize,
    #[serde(default = "default_layers")]
    num_attention_heads: usize,
    intermediate_size: Option<usize>,
    mlp_ratio: Option<f64>,
    #[serde(default = "default_activation")]
    hidden_act: String,
    layer_norm_eps: Option<f32>,
    #[serde(default = "yes")]
    qkv_bias: bool,
    #[serde(default)]
    use_swiglu_ffn: bool,
}

fn default_image_size() -> usize {
    224
}

fn default_patch_size() -> usize {
    16
}

fn default_width() -> usize {
    768
}

fn default_layers() -> usize {
    12
}

fn default_activation() -> String {
    "gelu".into()
}

fn yes() -> bool {
    true
}

/// The three kinds, by the `model_type` of the configuration.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Vit,
    Deit,
    Dinov2,
}

impl Kind {
    fn of(model_type: &str) -> Option<Self> {
        match model_type {
            "vit" => Some(Self::Vit),
            "deit" => Some(Self::Deit),
            "dinov2" => Some(Self::Dinov2),
            _ => None,
        }
    }

    /// Returns the processor that such models have.
    fn processor(self) -> Processor {
        match self {
            Self::Vit => Processor::Vit,
            Self::Deit => Processor::Deit,
            Self::Dinov2 => Processor::Bit,
        }
    }

    /// Returns the prefix under which its classifiers keep the backbone.
    fn prefix(self) -> &'static str {
        match self {
            Self::Vit => "vit.",
            Self::Deit => "deit.",
            Self::Dinov2 => "dinov2.",
        }
    }
}

/// Returns whether a `model_type` is one of these.
pub(super) fn is_model_type(model_type: &str) -> bool {
    Kind::of(model_type).is_some()
}

/// Opens weights with the configuration of their folder.
pub(super) fn open(
    folder: &Path,
    mut tensors: TensorTable,
    options: OpenOptions,
) -> Result<Checkpoint> {
    let path = folder.join("config.json");
    let config: Config = read_json(&path)?;
    let unsupported = |what: &str| {
        Error::unsupported(
            &path,
            what,
            "ViT, DeiT and DINOv2 with plain MLPs are read: use another size of the model",
        )
    };
    let kind = Kind::of(&config.model_type).ok_or_else(|| unsupported("another kind of model"))?;
    if config.use_swiglu_ffn {
        return Err(unsupported("a model with gated MLPs"));
    }
    if !config.qkv_bias {
        return Err(unsupported("a model whose attention has no bias"));
    }
    if config.hidden_act != "gelu" {
        return Err(unsupported("a model with another activation than gelu"));
    }

    let Prepared {
        preprocess,
        normalization,
        is_given,
    } = hugging_face_preprocessor::read(folder, kind.processor())?;
    let mut warnings = Vec::new();
    if !is_given {
        warnings.push(format!(
            "{}: no preprocessor_config.json says how pictures are prepared; what is usual for this kind of model is taken",
            folder.display()
        ));
    }

    // Classifiers keep the backbone under a prefix; what else they have is left aside.
    let prefix = kind.prefix();
    let prefixed = tensors.keys().any(|name| name.starts_with(prefix));
    let prefix = if prefixed { prefix } else { "" };
    let classes = tensors
        .get("classifier.bias")
        .map(|bias| bias.shape().to_vec());
    // DINOv2's classifiers read the mean of the patches too.
    let pretrained_classes = match (kind, classes.as_deref()) {
        (Kind::Vit | Kind::Deit, Some(&[classes])) => Some(classes),
        _ => None,
    };
    let aside = [
        "pooler.",
        "mask_token",
        "cls_classifier",
        "distillation_classifier",
        "decoder.",
    ];
    tensors.retain(|name, _| {
        let name = name.strip_prefix(prefix).unwrap_or(name);
        let classifier = name.starts_with("classifier.");
        !aside.iter().any(|aside| name.contains(aside))
            && (!classifier || pretrained_classes.is_some())
    });

    let grid = config.image_size / config.patch_size.max(1);
    // The position embeddings are resized to the pictures.
    let image_size = match is_given {
        true => preprocess.size as usize,
        false => config.image_size,
    };
    let mlp_width = match (config.intermediate_size, config.mlp_ratio) {
        (Some(width), None) => width,
        (_, ratio) => (ratio.unwrap_or(4.0) * config.hidden_size as f64) as usize,
    };
    let config = ModelConfig {
        embedding_width: config.hidden_size,
        activation: options.activation.unwrap_or(Activation::Gelu),
        image: ImageTowerConfig::Vit(VitConfig {
            image_size,
            patch_size: config.patch_size,
            width: config.hidden_size,
            layers: config.num_hidden_layers,
            heads: config.num_attention_heads,
            family: VitFamily::Plain(PlainVit {
                mlp_width,
                epsilon: config.layer_norm_eps.unwrap_or(match kind {
                    Kind::Dinov2 => 1e-6,
                    Kind::Vit | Kind::Deit => 1e-12,
                }),
                layer_scale: kind == Kind::Dinov2,
                leading_tokens: if kind == Kind::Deit { 2 } else { 1 },
                position_grid: grid,
                resizing: PositionResizing::Bicubic,
            }),
        }),
        text: None,
        pretrained_classes,
    };
    parameters::check_config(&path, &config)?;
    let names = Names {
        prefix,
        kind,
        // transformers from version 5 on names its modules anew.
        newer: tensors.keys().any(|name| name.ends_with("q_proj.weight")),
    };
    Ok(Checkpoint {
        format: Format::HuggingFace,
        weights: Weights::assemble(folder, &config, tensors, |name| names.source(name))?,
        config,
        tokenizer_file: None,
        preprocess: preprocess.at(image_size as u32),
        normalization,
        warnings,
    })
}

/// How a folder names its tensors.
struct Names<'a> {
    prefix: &'a str,
    kind: Kind,
    newer: bool,
}

impl Names<'_> {
    /// Returns where `transformers` keeps a weight.
    fn source(&self, name: &str) -> Source {
        let prefix = self.prefix;
        if let Some((layer, part)) = name
            .strip_prefix("visual.transformer.resblocks.")
            .and_then(|rest| rest.split_once('.'))
        {
            let layers = match (self.newer, self.kind) {
                (true, Kind::Vit | Kind::Deit) => "layers",
                _ => "encoder.layer",
            };
            let layer = format!("{prefix}{layers}.{layer}");
            if let Some(kind) = part.strip_prefix("attn.in_proj_") {
                let name = |which: &str| match self.newer {
                    true => format!("{layer}.attention.{}_proj.{kind}", &which[..1]),
                    false => format!("{layer}.attention.attention.{which}.{kind}"),
                };
                return Source {
                    names: ["query", "key", "value"].map(name).to_vec(),
                    axes: Axes::Same,
                };
            }
            return Source::named(format!("{layer}.{}", self.part(part)));
        }
        let split = |name: &str| Source {
            names: vec![format!("{prefix}embeddings.{name}")],
            axes: Axes::Split,
        };
        match name {
            "visual.class_embedding" => split("cls_token"),
            "visual.distillation_embedding" => split("distillation_token"),
            "visual.positional_embedding" => split("position_embeddings"),
            _ => Source::named(match name.strip_prefix("head.") {
                Some(end) => format!("classifier.{end}"),
                None => name
                    .replace(
                        "visual.conv1",
                        &format!("{prefix}embeddings.patch_embeddings.projection"),
                    )
                    .replace("visual.ln_post", &format!("{prefix}layernorm")),
            }),
        }
    }

    /// Names a part of a block other than queries, keys and values.
    fn part(&self, part: &str) -> String {
        let output = match self.newer {
            true => "attention.o_proj",
            false => "attention.output.dense",
        };
        let part = part.replace("attn.out_proj", output);
        if self.kind == Kind::Dinov2 {
            return part
                .replace("ln_", "norm")
                .replace("ls_1.gamma", "layer_scale1.lambda1")
                .replace("ls_2.gamma", "layer_scale2.lambda1")
                .replace("mlp.c_fc", "mlp.fc1")
                .replace("mlp.c_proj", "mlp.fc2");
        }
        let (expand, contract) = match self.newer {
            true => ("mlp.fc1", "mlp.fc2"),
            false => ("intermediate.dense", "output.dense"),
        };
        part.replace("ln_1", "layernorm_before")
            .replace("ln_2", "layernorm_after")
            .replace("mlp.c_fc", expand)
            .replace("mlp.c_proj", contract)
    }
}
