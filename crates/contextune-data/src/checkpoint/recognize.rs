//! Families of models, told apart by the names of their tensors.

use std::path::Path;

use super::error::{Error, Result};
use super::tensor::TensorTable;

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

/// Returns whether tensors have the names of Hugging Face's models.
pub(super) fn has_hugging_face_names(tensors: &TensorTable) -> bool {
    tensors.keys().any(|name| name.starts_with("vision_model.")) || is_plain_vit(tensors)
}

/// Returns whether tensors have the names of `ViTModel`, `DeiTModel` or `Dinov2Model`.
fn is_plain_vit(tensors: &TensorTable) -> bool {
    let mut names = tensors.keys();
    names.any(|name| name.ends_with("embeddings.patch_embeddings.projection.weight"))
}

/// Names a family by the `model_type` of its `config.json`.
pub(super) fn hugging_face_family(model_type: &str) -> String {
    match model_type {
        "siglip" | "siglip2" => "a SigLIP model".into(),
        "chinese_clip" => "a Chinese-CLIP model".into(),
        "clip_text_model" => "only the text tower of a CLIP".into(),
        "clip_vision_model" => "only the image tower of a CLIP".into(),
        other => format!("a model of type {other:?}"),
    }
}
