//! OpenCLIP: training checkpoints (`.pt`), and folders with `open_clip_config.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::error::{Error, Result};
use super::folder::{existing_file, read_json};
use super::opened::{Checkpoint, Format, Normalization, OpenOptions};
use super::table::tensors_of;
use super::tensor::TensorTable;
use super::weights::{Weights, is_openai_size};
use super::{openai, parameters, recognize, wrappers};
use crate::architecture::{Activation, ImageTowerConfig};
use crate::image::{Filter, Preprocess, Resize};

pub(super) const CONFIG_FILE: &str = "open_clip_config.json";
/// Files that hold weights, the preferred first.
pub(super) const WEIGHT_FILES: [&str; 2] =
    ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"];

/// `open_clip_config.json`
#[derive(Deserialize)]
struct Config {
    model_cfg: Model,
    #[serde(default)]
    preprocess_cfg: PreprocessSettings,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    quick_gelu: bool,
    vision_cfg: Tower,
    text_cfg: Tower,
}

/// The settings of a tower that its shapes do not tell, and the rest.
#[derive(Deserialize)]
struct Tower {
    head_width: Option<usize>,
    heads: Option<usize>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// How pictures are prepared (`open_clip.PreprocessCfg`); its `size` does not count there either, but the tower's.
#[derive(Default, Deserialize)]
struct PreprocessSettings {
    mode: Option<String>,
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    interpolation: Option<String>,
    resize_mode: Option<String>,
    fill_color: Option<FillColour>,
}

/// The colour around a picture that does not fill its square.
#[derive(Deserialize)]
#[serde(untagged)]
enum FillColour {
    Grey(u8),
    Rgb([u8; 3]),
}

/// Settings of a tower that its shapes tell or that matter only in training.
const HARMLESS: [&str; 10] = [
    "context_length",
    "image_size",
    "layers",
    "mlp_ratio",
    "output_tokens",
    "patch_dropout",
    "patch_size",
    "tokenizer_kwargs",
    "vocab_size",
    "width",
];
/// Settings that change the computation, with the values that leave it CLIP's. `null` and `false` do too.
const CLIP_VALUES: [(&str, &str); 4] = [
    ("pool_type", "tok"),
    ("pool_type", "argmax"),
    ("pos_embed_type", "learnable"),
    ("proj_type", "linear"),
];

/// Opens a checkpoint of tensors under OpenAI's names, as `torch.save` wrote it.
///
/// The file does not say its activation: GELU is taken, which most of OpenCLIP's own models have, with a warning.
pub(super) fn open_without_config(
    path: &Path,
    tensors: TensorTable,
    options: OpenOptions,
) -> Result<Checkpoint> {
    let tensors = plain_names(tensors);
    // A re-saved OpenAI model keeps the three sizes that OpenCLIP never writes.
    let from_openai = tensors.keys().any(|name| is_openai_size(name));
    let mut warnings = Vec::new();
    let activation = match options.activation {
        Some(activation) => activation,
        None if from_openai => Activation::QuickGelu,
        None => {
            warnings.push(format!(
                "{}: the file does not say its activation; GELU is taken. Models trained with QuickGELU (OpenAI's, \
                 and OpenCLIP's whose name ends in -quickgelu) need the activation quickgelu",
                path.display()
            ));
            Activation::Gelu
        }
    };
    let config = openai::config_from_shapes(path, &tensors, activation, openai::Heads::default())?;
    parameters::check_config(path, &config)?;
    Ok(Checkpoint {
        format: Format::OpenClip,
        preprocess: Preprocess::new(config.image.image_size() as u32),
        weights: Weights::assemble(path, &config, tensors, openai::same_name)?,
        config,
        tokenizer_file: None,
        normalization: Normalization::OPENAI,
        warnings,
    })
}

/// Opens a folder with its weights.
pub(super) fn open_folder(folder: &Path, options: OpenOptions) -> Result<Checkpoint> {
    let path = WEIGHT_FILES
        .into_iter()
        .find_map(|name| existing_file(folder, name))
        .ok_or_else(|| {
            Error::not_a_checkpoint(
                folder,
                "a folder without weights",
                format!("it needs one of {}", WEIGHT_FILES.join(", ")),
            )
        })?;
    let (tensors, _) = wrappers::unwrapped(&path, tensors_of(&path)?)?;
    recognize::refuse_other_families(&path, &tensors)?;
    open(folder, &path, tensors, options)
}

/// Opens the weights of the file `path` with the configuration of `folder`.
pub(super) fn open(
    folder: &Path,
    path: &Path,
    tensors: TensorTable,
    options: OpenOptions,
) -> Result<Checkpoint> {
    let config_file = folder.join(CONFIG_FILE);
    let Config {
        model_cfg: model,
        preprocess_cfg: preprocess,
    } = read_json(&config_file)?;
    refuse_other_towers(&config_file, "vision_cfg", &model.vision_cfg)?;
    refuse_other_towers(&config_file, "text_cfg", &model.text_cfg)?;

    let tensors = plain_names(tensors);
    let activation = match (options.activation, model.quick_gelu) {
        (Some(activation), _) => activation,
        (None, true) => Activation::QuickGelu,
        (None, false) => Activation::Gelu,
    };
    let heads = openai::Heads {
        image: None,
        text: model.text_cfg.heads,
    };
    let mut config = openai::config_from_shapes(path, &tensors, activation, heads)?;
    if let Some(head_width) = model.vision_cfg.head_width {
        let heads = |width: usize| width.checked_div(head_width).unwrap_or(0);
        match &mut config.image {
            ImageTowerConfig::Vit(vit) => vit.heads = heads(vit.width),
            ImageTowerConfig::ResNet(resnet) => {
                resnet.heads = heads(resnet.width.saturating_mul(32));
            }
            ImageTowerConfig::EfficientNet(_) => {} // it has no heads
        }
    }
    parameters::check_config(&config_file, &config)?;
    let size = config.image.image_size() as u32;
    let (preprocess, normalization) = preprocess.read(&config_file, size)?;
    Ok(Checkpoint {
        format: Format::OpenClip,
        preprocess,
        weights: Weights::assemble(path, &config, tensors, openai::same_name)?,
        config,
        tokenizer_file: existing_file(folder, "tokenizer.json"),
        normalization,
        warnings: Vec::new(),
    })
}

/// What OpenCLIP's CustomTextCLIP puts in front of the text tower's names.
const TEXT_WRAPPER: &str = "text.";

fn plain_names(tensors: TensorTable) -> TensorTable {
    tensors
        .into_iter()
        .map(|(name, tensor)| match name.strip_prefix(TEXT_WRAPPER) {
            Some(plain) => (plain.to_owned(), tensor),
            None => (name, tensor),
        })
        .collect()
}

/// Returns whether the text tower's names are those of CustomTextCLIP.
pub(super) fn has_text_wrapper(tensors: &TensorTable) -> bool {
    tensors.keys().any(|name| name.starts_with(TEXT_WRAPPER))
}

fn refuse_other_towers(path: &Path, tower: &str, settings: &Tower) -> Result<()> {
    let is_clip = |(name, value): &(&String, &Value)| {
        HARMLESS.contains(&name.as_str())
            || matches!(value, Value::Null | Value::Bool(false))
            || CLIP_VALUES
                .iter()
                .any(|(setting, clip)| name == setting && value.as_str() == Some(clip))
    };
    match settings.rest.iter().find(|setting| !is_clip(setting)) {
        Some((name, value)) => Err(Error::unsupported(
            path,
            format!("a tower that is not CLIP's ({tower}.{name} = {value})"),
            "use an OpenCLIP model with a plain vision transformer or ResNet and CLIP's text transformer",
        )),
        None => Ok(()),
    }
}

impl PreprocessSettings {
    /// Returns what `open_clip.image_transform_v2` makes of them for pictures that are not trained on.
    fn read(self, path: &Path, size: u32) -> Result<(Preprocess, Normalization)> {
        let unsupported = |setting: &str, value: &Value| {
            Error::unsupported(
                path,
                format!("pictures prepared with {setting} {value}"),
                "OpenCLIP's resize_mode shortest, longest and squash, its interpolation bicubic and bilinear, and RGB are supported",
            )
        };
        if let Some(mode) = self.mode.filter(|mode| mode != "RGB") {
            return Err(unsupported("mode", &mode.into()));
        }
        let resize = match self.resize_mode.as_deref() {
            None | Some("shortest") => Resize::ShorterSide(size),
            Some("longest") => Resize::LongerSide(size),
            Some("squash") => Resize::Square(size),
            Some(other) => return Err(unsupported("resize_mode", &other.into())),
        };
        let filter = match self.interpolation.as_deref() {
            // As there: whatever is not bilinear is bicubic, and "random" is random in training alone.
            None | Some("bicubic" | "random") => Filter::Bicubic,
            Some("bilinear") => Filter::Bilinear,
            Some(other) => return Err(unsupported("interpolation", &other.into())),
        };
        let fill = match self.fill_color {
            None => [0; 3],
            Some(FillColour::Grey(grey)) => [grey; 3],
            Some(FillColour::Rgb(rgb)) => rgb,
        };
        let normalization = Normalization {
            mean: self.mean.unwrap_or(Normalization::OPENAI.mean),
            std: self.std.unwrap_or(Normalization::OPENAI.std),
        };
        normalization.check(path)?;
        let preprocess = Preprocess {
            resize,
            filter,
            fill,
            ..Preprocess::new(size)
        };
        Ok((preprocess, normalization))
    }
}
