//! Vision transformers of google-research/vision_transformer: `.npz` archives of NumPy arrays under JAX names.

use std::io::Cursor;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use regex::Regex;
use zip::read::ZipArchive;

use super::error::{Error, Result};
use super::opened::{Checkpoint, Format, Normalization};
use super::parameters;
use super::shapes::Shapes;
use super::tensor::{Bytes, ElementType, StoredTensor, TensorTable, contiguous_strides};
use super::weights::{Axes, Source, Weights};
use super::zip::locate;
use crate::architecture::{
    Activation, ImageTowerConfig, ModelConfig, PlainVit, PositionResizing, VitConfig, VitFamily,
};
use crate::image::Preprocess;

/// Bytes of an array's header; those of real files have 118.
const MAX_HEADER: usize = 1 << 14;
const POSITIONS: &str = "Transformer/posembed_input/pos_embedding";
const BLOCK: &str = "Transformer/encoderblock_";
/// A layer between features and classes of the first ImageNet-21k models: their classes need it.
const PRE_LOGITS: &str = "pre_logits/";

/// Opens an archive of NumPy arrays.
pub(super) fn open(file: &Arc<Bytes>) -> Result<Checkpoint> {
    let path = file.path.clone();
    let mut tensors = read(file)?;
    if !tensors.contains_key("Transformer/encoder_norm/scale") {
        let names: Vec<_> = tensors.keys().take(3).cloned().collect();
        return Err(Error::unsupported(
            &path,
            format!("arrays of an unknown model ({}, …)", names.join(", ")),
            "vision transformers of google-research/vision_transformer are read",
        ));
    }
    if tensors.keys().any(|name| name.starts_with(PRE_LOGITS)) {
        tensors.retain(|name, _| !name.starts_with(PRE_LOGITS) && !name.starts_with("head/"));
    }
    let config = config(&path, &tensors)?;
    parameters::check_config(&path, &config)?;
    Ok(Checkpoint {
        preprocess: Preprocess::new(config.image.image_size() as u32),
        format: Format::JaxNpz,
        weights: Weights::assemble(&path, &config, tensors, source)?,
        config,
        tokenizer_file: None,
        normalization: Normalization::HALF,
        warnings: Vec::new(),
    })
}

/// Returns the arrays by name, without `.npy`.
fn read(file: &Arc<Bytes>) -> Result<TensorTable> {
    let damaged = |what: String| Error::damaged(&file.path, what);
    let mut archive = ZipArchive::new(Cursor::new(&***file))
        .map_err(|error| damaged(format!("its table of contents cannot be read ({error})")))?;
    let names: Vec<String> = archive
        .file_names()
        .map(|name| name.map(|name| name.into_owned()))
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| damaged(format!("the name of one of its arrays is broken ({error})")))?;
    let mut tensors = TensorTable::new();
    for name in names {
        let index = archive
            .index_for_name(&name)
            .ok_or_else(|| damaged(format!("its entry {name} is not there")))?;
        let range = locate(&mut archive, index, &name, &file.path)?;
        let short = name.trim_end_matches(".npy");
        let bytes = file
            .get(range.clone())
            .ok_or_else(|| damaged(format!("its array {short} lies beyond its end")))?;
        let Header {
            length,
            element,
            shape,
        } = header(bytes).ok_or_else(|| {
            damaged(format!(
                "its array {short} has a header that cannot be read, or is in Fortran's order"
            ))
        })?;
        let strides = contiguous_strides(&shape);
        let storage = range.start + length..range.end;
        let tensor = StoredTensor::new(file, short, element, storage, 0, shape, strides)?;
        tensors.insert(short.to_owned(), tensor);
    }
    Ok(tensors)
}

/// What stands before the elements of an array.
struct Header {
    /// Bytes of it.
    length: usize,
    element: ElementType,
    shape: Vec<usize>,
}

/// Reads `\x93NUMPY`, version, length and a Python dict (numpy.lib.format).
fn header(bytes: &[u8]) -> Option<Header> {
    static DESCR: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"'descr': '([<|][a-zA-Z][0-9]+)'").expect("it is valid"));
    static SHAPE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"'shape': \(([0-9, ]*)\)").expect("it is valid"));
    let rest = bytes.strip_prefix(b"\x93NUMPY")?;
    let (version, rest) = rest.split_first_chunk::<2>()?;
    let (start, length) = match version {
        [1, _] => (10, u16::from_le_bytes(*rest.first_chunk()?) as usize),
        [2 | 3, _] => (12, u32::from_le_bytes(*rest.first_chunk()?) as usize),
        _ => return None,
    };
    if length > MAX_HEADER {
        return None;
    }
    let text = std::str::from_utf8(bytes.get(start..start + length)?).ok()?;
    if !text.contains("'fortran_order': False") {
        return None;
    }
    let element = match &DESCR.captures(text)?[1] {
        "<f2" => ElementType::Half,
        "<f4" => ElementType::Single,
        "<f8" => ElementType::Double,
        "<i4" => ElementType::Other("int32", 4),
        "<i8" => ElementType::Other("int64", 8),
        // What JAX calls bfloat16 NumPy does not know.
        "|V2" => ElementType::BFloat16,
        _ => return None,
    };
    let shape = SHAPE.captures(text)?[1]
        .split(',')
        .map(str::trim)
        .filter(|size| !size.is_empty())
        .map(|size| size.parse().ok())
        .collect::<Option<_>>()?;
    Some(Header {
        length: start + length,
        element,
        shape,
    })
}

fn config(path: &Path, tensors: &TensorTable) -> Result<ModelConfig> {
    let shapes = Shapes { path, tensors };
    let [patch_size, _, _, width] = shapes.of("embedding/kernel")?;
    let [_, positions, _] = shapes.of(POSITIONS)?;
    let [_, heads, _] = shapes.of(&jax_name(0, "query/kernel"))?;
    let [_, mlp_width] = shapes.of(&format!("{BLOCK}0/MlpBlock_3/Dense_0/kernel"))?;
    let grid = shapes.side(POSITIONS, positions)?;
    let pretrained_classes = match tensors.contains_key("head/kernel") {
        true => Some(shapes.of::<2>("head/kernel")?[1]),
        false => None,
    };
    Ok(ModelConfig {
        embedding_width: width,
        activation: Activation::Gelu,
        image: ImageTowerConfig::Vit(VitConfig {
            image_size: patch_size.saturating_mul(grid),
            patch_size,
            width,
            layers: layers(tensors),
            heads,
            family: VitFamily::Plain(PlainVit {
                mlp_width,
                epsilon: 1e-6,
                layer_scale: false,
                leading_tokens: 1,
                position_grid: grid,
                resizing: PositionResizing::Linear,
            }),
        }),
        text: None,
        pretrained_classes,
    })
}

/// Counts the blocks up to the first gap.
fn layers(tensors: &TensorTable) -> usize {
    (0..)
        .take_while(|layer| tensors.contains_key(&format!("{BLOCK}{layer}/LayerNorm_0/scale")))
        .count()
}

/// Returns the name of an array of a block's attention.
fn jax_name(layer: impl std::fmt::Display, part: &str) -> String {
    format!("{BLOCK}{layer}/MultiHeadDotProductAttention_1/{part}")
}

/// Returns where JAX keeps a weight.
fn source(name: &str) -> Source {
    let of = |names: Vec<String>, axes| Source { names, axes };
    // A kernel is applied from the right, a norm's weight is a scale.
    let kernel = |module: &str| of(vec![format!("{module}/kernel")], Axes::Reversed);
    let bias = |module: &str| Source::named(format!("{module}/bias"));
    if let Some((layer, part)) = name
        .strip_prefix("visual.transformer.resblocks.")
        .and_then(|rest| rest.split_once('.'))
    {
        let three = |end: &str| {
            let name = |which| jax_name(layer, &format!("{which}/{end}"));
            ["query", "key", "value"].map(name).to_vec()
        };
        let mlp = |number| format!("{BLOCK}{layer}/MlpBlock_3/Dense_{number}");
        let norm = |number, end| Source::named(format!("{BLOCK}{layer}/LayerNorm_{number}/{end}"));
        return match part {
            "attn.in_proj_weight" => of(three("kernel"), Axes::SplitReversed),
            "attn.in_proj_bias" => of(three("bias"), Axes::Split),
            "attn.out_proj.weight" => of(vec![jax_name(layer, "out/kernel")], Axes::SplitReversed),
            "attn.out_proj.bias" => Source::named(jax_name(layer, "out/bias")),
            "mlp.c_fc.weight" => kernel(&mlp(0)),
            "mlp.c_fc.bias" => bias(&mlp(0)),
            "mlp.c_proj.weight" => kernel(&mlp(1)),
            "mlp.c_proj.bias" => bias(&mlp(1)),
            "ln_1.weight" => norm(0, "scale"),
            "ln_1.bias" => norm(0, "bias"),
            "ln_2.weight" => norm(2, "scale"),
            _ => norm(2, "bias"),
        };
    }
    match name {
        "visual.conv1.weight" => of(vec!["embedding/kernel".into()], Axes::JaxConvolution),
        "visual.conv1.bias" => bias("embedding"),
        "visual.class_embedding" => of(vec!["cls".into()], Axes::Split),
        "visual.positional_embedding" => of(vec![POSITIONS.into()], Axes::Split),
        "visual.ln_post.weight" => Source::named("Transformer/encoder_norm/scale"),
        "visual.ln_post.bias" => bias("Transformer/encoder_norm"),
        "head.weight" => kernel("head"),
        _ => bias("head"),
    }
}
