//! What a file is, from its bytes and from the names of its tensors.

use std::path::Path;

use super::error::{Error, Result};
use super::jax_npz;
use super::tensor::{Bytes, TensorTable};
use super::torch_archive::LEGACY_MAGIC;

/// How a file holds tensors.
pub(super) enum Container {
    Safetensors,
    Torch,
    /// NumPy arrays.
    Npz,
}

/// Names the container, or what else the file is.
pub(super) fn container(file: &Bytes) -> Result<Container> {
    let bytes: &[u8] = file;
    if bytes.starts_with(b"PK\x03\x04") && jax_npz::is_npz(file) {
        return Ok(Container::Npz);
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(&LEGACY_MAGIC) {
        return Ok(Container::Torch);
    }
    // Eight bytes of header length, then the header, which is JSON.
    if let Some((length, b"{\"" | b"{}" | b"{ ")) = bytes
        .split_first_chunk::<8>()
        .and_then(|(length, rest)| Some((u64::from_le_bytes(*length), rest.get(..2)?)))
        && length <= 100_000_000
    {
        return Ok(Container::Safetensors);
    }
    let (what, advice) = other_kind(bytes);
    Err(Error::not_a_checkpoint(&file.path, what, advice))
}

const EXPECTED: &str = "expected a safetensors file, a PyTorch file, or a folder with config.json or open_clip_config.json";

fn other_kind(bytes: &[u8]) -> (&'static str, &'static str) {
    let start = &bytes[..bytes.len().min(512)];
    let text = start.trim_ascii_start().to_ascii_lowercase();
    let is = |magic: &[u8]| start.starts_with(magic);
    if is(b"version https://git-lfs") {
        return (
            "a Git LFS pointer, which only names the real file",
            "run `git lfs pull` where it was cloned, or download the file itself",
        );
    }
    if text.starts_with(b"<!doctype html") || text.starts_with(b"<html") {
        return (
            "a web page",
            "the download was answered by a page: use the link of the file itself",
        );
    }
    if text.starts_with(b"{") {
        return (
            "a JSON text",
            "pass the folder that holds it and the weights",
        );
    }
    let is_webp = is(b"RIFF") && start.get(8..12) == Some(b"WEBP");
    let is_bitmap = is(b"\x89PNG") || is(b"\xff\xd8\xff") || is(b"GIF8") || is(b"BM");
    let kind = if is_bitmap || is_webp {
        "a picture"
    } else if is(b"%PDF") {
        "a PDF document"
    } else if is(b"\x1f\x8b") || is(b"7z\xbc\xaf") || is(b"\xfd7zXZ") || is(b"\x28\xb5\x2f\xfd") {
        return ("a compressed file", "unpack it first");
    } else if start.get(257..262) == Some(b"ustar") {
        return ("a tar archive", "unpack it first");
    } else if is(b"GGUF") {
        "a GGUF model"
    } else if is(b"\x89HDF") {
        "an HDF5 file (Keras)"
    } else if is(b"\x93NUMPY") {
        "a NumPy array"
    } else if start.first() == Some(&0x80) && start.get(1).is_some_and(|version| *version <= 5) {
        "a Python pickle that torch.save did not write"
    } else if bytes
        .iter()
        .take(512)
        .all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
    {
        "a text"
    } else {
        "a file of an unknown kind, or the later part of one"
    };
    (kind, EXPECTED)
}

/// Marks of families that the towers cannot run: how a tensor's name or what follows a dot in it starts, the family,
/// what to do.
///
/// The first that is found counts, so the more telling ones come first.
const FAMILIES: [(&str, &str, &str); 20] = [
    ("logit_bias", "a SigLIP model", PLAIN_CLIP),
    ("vision_model.head.probe", "a SigLIP model", PLAIN_CLIP),
    ("text_decoder.", "a CoCa model", PLAIN_CLIP),
    ("visual.rope.", "an EVA-CLIP model", PLAIN_CLIP),
    ("visual.blocks.", "an EVA-CLIP model", PLAIN_CLIP),
    (
        "visual.trunk.",
        "an OpenCLIP model with an image tower of timm",
        PLAIN_CLIP,
    ),
    (
        "text.transformer.encoder.",
        "an OpenCLIP model with a text tower of Hugging Face",
        PLAIN_CLIP,
    ),
    (
        "text.transformer.embeddings.",
        "an OpenCLIP model with a text tower of Hugging Face",
        PLAIN_CLIP,
    ),
    (
        "text_model.encoder.layer.",
        "a Chinese-CLIP model",
        PLAIN_CLIP,
    ),
    (
        "visual.attn_pool.",
        "a model with an attention-pooled vision transformer",
        PLAIN_CLIP,
    ),
    ("image_encoder.model.", "a MobileCLIP model", PLAIN_CLIP),
    (
        "lora_",
        "a LoRA adapter",
        "merge it into its base model first",
    ),
    ("model.diffusion_model.", "a diffusion model", PLAIN_CLIP),
    ("prompt_learner.", "a learned prompt", A_MODEL),
    ("ctx", "a learned prompt", A_MODEL),
    ("image_features", "image features", A_MODEL),
    ("wte.weight", "a GPT-2 language model", PLAIN_CLIP),
    ("word_embeddings.weight", "a BERT text model", PLAIN_CLIP),
    (
        "blocks.0.attn.qkv.weight",
        "an image classifier of timm",
        PLAIN_CLIP,
    ),
    ("fc.weight", "an image classifier", PLAIN_CLIP),
];
const PLAIN_CLIP: &str = "use a CLIP of OpenAI, OpenCLIP or Hugging Face's CLIPModel";
const A_MODEL: &str = "it goes with a model: pass that one here";

/// Names the family of tensors that are no CLIP, if it can be told.
pub(super) fn refuse_other_families(path: &Path, tensors: &TensorTable) -> Result<()> {
    if is_plain_vit(tensors) {
        return Ok(());
    }
    let has = |mark: &str| {
        let starts = |name: &str| name.starts_with(mark);
        let mut names = tensors.keys();
        names.any(|name| {
            starts(name)
                || name
                    .match_indices('.')
                    .any(|(dot, _)| starts(&name[dot + 1..]))
        })
    };
    let refuse = |what: &str, advice: &str| Err(Error::unsupported(path, what, advice));
    // OFA-Sys's own files: OpenAI's image tower beside a BERT.
    if has("bert.") && has("visual.") {
        return refuse("a Chinese-CLIP model", PLAIN_CLIP);
    }
    if let Some((_, family, advice)) = FAMILIES.iter().find(|(mark, ..)| has(mark)) {
        return refuse(family, advice);
    }
    let image = has("visual.") || has("vision_model.");
    let text = has("token_embedding") || has("ln_final") || has("text_model.");
    match (image, text) {
        (true, false) => refuse("only the image tower of a CLIP", PLAIN_CLIP),
        (false, true) => refuse("only the text tower of a CLIP", PLAIN_CLIP),
        (false, false) => refuse(
            &format!(
                "tensors of an unknown model ({}, …)",
                tensors
                    .keys()
                    .take(3)
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            PLAIN_CLIP,
        ),
        (true, true) => Ok(()),
    }
}

/// Whether tensors have the names of Hugging Face's models.
pub(super) fn has_hugging_face_names(tensors: &TensorTable) -> bool {
    tensors.keys().any(|name| name.starts_with("vision_model.")) || is_plain_vit(tensors)
}

/// Whether they have those of `ViTModel`, `DeiTModel` or `Dinov2Model`.
fn is_plain_vit(tensors: &TensorTable) -> bool {
    let mut names = tensors.keys();
    names.any(|name| name.ends_with("embeddings.patch_embeddings.projection.weight"))
}

/// A family by the `model_type` of its `config.json`.
pub(super) fn hugging_face_family(model_type: &str) -> String {
    match model_type {
        "siglip" | "siglip2" => "a SigLIP model".into(),
        "chinese_clip" => "a Chinese-CLIP model".into(),
        "clip_text_model" => "only the text tower of a CLIP".into(),
        "clip_vision_model" => "only the image tower of a CLIP".into(),
        other => format!("a model of type {other:?}"),
    }
}
