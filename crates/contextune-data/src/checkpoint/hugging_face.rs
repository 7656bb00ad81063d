//! Hugging Face's `CLIPModel`: a folder with `config.json`, weights and the preprocessor's and tokenizer's files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde::Deserialize;

use super::error::{Error, Result};
use super::folder::{existing_file, read_json};
use super::hugging_face_preprocessor::{self, Prepared, Processor};
use super::opened::{Checkpoint, Format, OpenOptions};
use super::table::tensors_of;
use super::tensor::TensorTable;
use super::weights::{Axes, Source, Weights};
use super::{hugging_face_vit, parameters, recognize, wrappers};
use crate::architecture::{
    Activation, ImageTowerConfig, ModelConfig, TextTowerConfig, VitConfig, VitFamily,
};

/// Files that hold weights, the preferred first; an `.index.json` lists the files of a model in several parts.
pub(super) const WEIGHT_FILES: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// What every `config.json` says.
#[derive(Deserialize)]
struct ModelType {
    model_type: Option<String>,
}

/// `config.json`. What is absent has the default of `transformers.CLIPConfig`.
#[derive(Deserialize)]
struct Config {
    model_type: Option<String>,
    #[serde(default = "default_embedding_width")]
    projection_dim: usize,
    text_config: Option<serde_json::Map<String, serde_json::Value>>,
    vision_config: Option<serde_json::Map<String, serde_json::Value>>,
    /// Older files repeat a tower here; `transformers` lets it win.
    text_config_dict: Option<serde_json::Map<String, serde_json::Value>>,
    vision_config_dict: Option<serde_json::Map<String, serde_json::Value>>,
}

fn default_embedding_width() -> usize {
    512
}

#[derive(Deserialize)]
#[serde(default)]
struct TextConfig {
    vocab_size: usize,
    max_position_embeddings: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    hidden_act: String,
    layer_norm_eps: f64,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 49_408,
            max_position_embeddings: 77,
            hidden_size: 512,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
        }
    }
}

#[derive(Deserialize)]
#[serde(default)]
struct VisionConfig {
    image_size: usize,
    patch_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    hidden_act: String,
    layer_norm_eps: f64,
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            image_size: 224,
            patch_size: 32,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
        }
    }
}

/// The list of a model in several files.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Opens a folder with its weights.
pub(super) fn open_folder(folder: &Path, options: OpenOptions) -> Result<Checkpoint> {
    let (tensors, _) = wrappers::unwrapped(folder, read_tensors(folder)?)?;
    open(folder, tensors, options)
}

/// Opens weights with the configuration of their folder.
pub(super) fn open(
    folder: &Path,
    tensors: TensorTable,
    options: OpenOptions,
) -> Result<Checkpoint> {
    let config_file = folder.join("config.json");
    let ModelType { model_type } = read_json(&config_file)?;
    if model_type.is_some_and(|model_type| hugging_face_vit::is_model_type(&model_type)) {
        return hugging_face_vit::open(folder, tensors, options);
    }
    let mut config = read_config(&config_file)?;
    if let Some(activation) = options.activation {
        config.activation = activation;
    }
    parameters::check_config(&config_file, &config)?;

    let weights = Weights::assemble(folder, &config, tensors, source)?;
    let Prepared {
        preprocess,
        normalization,
        is_given,
    } = hugging_face_preprocessor::read(folder, Processor::Clip)?;
    let side = config.image.image_size();
    let mut warnings = Vec::new();
    let preprocess = match is_given {
        true if preprocess.size as usize != side => {
            return Err(Error::unsupported(
                folder,
                format!(
                    "pictures prepared {} pixels wide for an image tower that takes {side}",
                    preprocess.size
                ),
                "crop_size of the image processor must be the image_size in config.json",
            ));
        }
        true => preprocess,
        false => {
            warnings.push(format!(
                "{}: no preprocessor_config.json says how pictures are prepared; they are prepared as CLIPImageProcessor does it for OpenAI's models",
                folder.display()
            ));
            preprocess.at(side as u32)
        }
    };
    let tokenizer_file = existing_file(folder, "tokenizer.json");
    if tokenizer_file.is_none() && existing_file(folder, "vocab.json").is_some() {
        warnings.push(format!(
            "{}: vocab.json is not read without tokenizer.json; texts are tokenized with CLIP's own list",
            folder.display()
        ));
    }
    Ok(Checkpoint {
        format: Format::HuggingFace,
        config,
        weights,
        tokenizer_file,
        preprocess,
        normalization,
        warnings,
    })
}

fn read_config(path: &Path) -> Result<ModelConfig> {
    let config: Config = read_json(path)?;
    match config.model_type.as_deref() {
        Some("clip") | None => {}
        Some(other) => {
            return Err(Error::unsupported(
                path,
                format!(
                    "the configuration of {}",
                    recognize::hugging_face_family(other)
                ),
                "a folder of a Hugging Face CLIPModel is expected (model_type \"clip\")",
            ));
        }
    }
    let text: TextConfig = tower(
        path,
        "text_config",
        config.text_config,
        config.text_config_dict,
    )?;
    let vision: VisionConfig = tower(
        path,
        "vision_config",
        config.vision_config,
        config.vision_config_dict,
    )?;
    if text.hidden_act != vision.hidden_act {
        return Err(Error::unsupported(
            path,
            format!(
                "two activations, {} for texts and {} for images",
                text.hidden_act, vision.hidden_act
            ),
            "one for both is supported",
        ));
    }
    if text.layer_norm_eps != 1e-5 || vision.layer_norm_eps != 1e-5 {
        return Err(Error::unsupported(
            path,
            "a layer_norm_eps other than 1e-5",
            "use a plain CLIP",
        ));
    }
    let activation = match &*text.hidden_act {
        "quick_gelu" => Activation::QuickGelu,
        "gelu" => Activation::Gelu,
        other => {
            return Err(Error::unsupported(
                path,
                format!("the activation {other:?}"),
                "quick_gelu and gelu are supported",
            ));
        }
    };
    Ok(ModelConfig {
        embedding_width: config.projection_dim,
        activation,
        image: ImageTowerConfig::Vit(VitConfig {
            image_size: vision.image_size,
            patch_size: vision.patch_size,
            width: vision.hidden_size,
            layers: vision.num_hidden_layers,
            heads: vision.num_attention_heads,
            family: VitFamily::Clip,
        }),
        text: Some(TextTowerConfig {
            context_length: text.max_position_embeddings,
            vocabulary_size: text.vocab_size,
            width: text.hidden_size,
            layers: text.num_hidden_layers,
            heads: text.num_attention_heads,
        }),
        pretrained_classes: None,
    })
}

/// Returns one tower's settings, those of the older field over those of the newer.
fn tower<T: serde::de::DeserializeOwned>(
    path: &Path,
    field: &str,
    newer: Option<serde_json::Map<String, serde_json::Value>>,
    older: Option<serde_json::Map<String, serde_json::Value>>,
) -> Result<T> {
    let mut settings = newer.unwrap_or_default();
    settings.extend(older.unwrap_or_default());
    serde_json::from_value(settings.into())
        .map_err(|error| Error::config(path, format!("{field}: {error}")))
}

/// Returns the weights of a folder under their Hugging Face names.
fn read_tensors(folder: &Path) -> Result<TensorTable> {
    let name = WEIGHT_FILES
        .into_iter()
        .find(|name| folder.join(name).is_file())
        .ok_or_else(|| {
            Error::not_a_checkpoint(
                folder,
                "a folder without weights",
                format!("it needs one of {}", WEIGHT_FILES.join(", ")),
            )
        })?;
    if !name.ends_with(".index.json") {
        return tensors_of(&folder.join(name));
    }
    let mut tensors = TensorTable::new();
    for part in parts(&folder.join(name))? {
        tensors.extend(tensors_of(&folder.join(part))?);
    }
    Ok(tensors)
}

/// Returns the files that an index lists, all beside it.
pub(super) fn parts(index: &Path) -> Result<BTreeSet<String>> {
    let Index { weight_map } = read_json(index)?;
    let parts: BTreeSet<String> = weight_map.into_values().collect();
    let leaves_folder = |part: &&String| {
        !matches!(
            Path::new(part).components().collect::<Vec<_>>()[..],
            [Component::Normal(_)]
        )
    };
    match parts.iter().find(leaves_folder) {
        Some(part) => Err(Error::config(
            index,
            format!("the part {part:?} is not a file beside the index"),
        )),
        None => Ok(parts),
    }
}

/// Returns where `CLIPModel` keeps a weight.
fn source(name: &str) -> Source {
    let single = |name: &str| Source::named(name);
    let (tower, rest) = match name.strip_prefix("visual.") {
        Some(rest) => ("vision_model", rest),
        None => ("text_model", name),
    };
    if let Some((layer, part)) = rest
        .strip_prefix("transformer.resblocks.")
        .and_then(|rest| rest.split_once('.'))
    {
        let layer = format!("{tower}.encoder.layers.{layer}");
        if let Some(kind) = part.strip_prefix("attn.in_proj_") {
            let name = |letter| format!("{layer}.self_attn.{letter}_proj.{kind}");
            return Source {
                names: ["q", "k", "v"].map(name).to_vec(),
                axes: Axes::Same,
            };
        }
        let part = part
            .replace("attn.out_proj", "self_attn.out_proj")
            .replace("ln_", "layer_norm")
            .replace("mlp.c_fc", "mlp.fc1")
            .replace("mlp.c_proj", "mlp.fc2");
        return single(&format!("{layer}.{part}"));
    }
    match name {
        // A Linear layer there, a matrix applied from the right here.
        "visual.proj" => Source {
            names: vec!["visual_projection.weight".into()],
            axes: Axes::Reversed,
        },
        "text_projection" => Source {
            names: vec!["text_projection.weight".into()],
            axes: Axes::Reversed,
        },
        "visual.class_embedding" => single("vision_model.embeddings.class_embedding"),
        "visual.conv1.weight" => single("vision_model.embeddings.patch_embedding.weight"),
        "visual.positional_embedding" => {
            single("vision_model.embeddings.position_embedding.weight")
        }
        "positional_embedding" => single("text_model.embeddings.position_embedding.weight"),
        "token_embedding.weight" => single("text_model.embeddings.token_embedding.weight"),
        _ => single(
            &name
                .replace("visual.ln_pre", "vision_model.pre_layrnorm") // their spelling
                .replace("visual.ln_post", "vision_model.post_layernorm")
                .replace("ln_final", "text_model.final_layer_norm"),
        ),
    }
}
