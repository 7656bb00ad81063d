"""Make full-size CLIP models with random weights, and the features they give.

    python make_models.py OUT_DIR

Each model is written by the package that writes such files in the wild, read back by
it, and run in fp32 on the CPU. README.md says what lies where in OUT_DIR. A model that
this script, with these package versions, has already made is left as it is.
"""

import hashlib
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here needs a download

import numpy as np
import open_clip
import torch
from open_clip.push_to_hf_hub import save_for_hf
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

TEXTS = [
    "a photo of a dog.",
    "An icon of a small RED house, drawn by hand",
    "sun",
    "it's the dog's, isn't it?  42 of   them",
    "naïve café — 東京 🙂",
    # 75 tokens: with SOT and EOT the text fills the context to its last place.
    " ".join(["red house"] * 37 + ["sun"]),
]


def pictures() -> dict[str, Image.Image]:
    """Three of the models' own size, so that nothing is resized, and one larger."""
    random = np.random.default_rng(0)
    ramp = np.linspace(0, 255, 224)
    gradient = np.stack([np.tile(ramp, (224, 1)), np.tile(ramp[:, None], (1, 224)), np.full((224, 224), 64)], axis=-1)
    rows, columns = np.mgrid[0:224, 0:224]
    rings = 127.5 + 127.5 * np.cos(np.hypot(rows - 80, columns - 140) / 6)
    coarse = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    return {
        "1_noise": Image.fromarray(random.integers(0, 256, (224, 224, 3), dtype=np.uint8)),
        "2_gradient": Image.fromarray(gradient.astype(np.uint8)),
        "3_rings_grey": Image.fromarray(rings.astype(np.uint8)),
        "4_larger": coarse.resize((400, 300), Image.Resampling.BICUBIC),
    }


@torch.no_grad()
def randomize(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Weights for which a mistake in any tensor moves the features.

    A fresh model will not do: its biases are 0, its norms the identity, its batch
    statistics 0 and 1, and its features hardly depend on the input.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor):
        return torch.randn(tensor.shape, generator=generator)

    for module_name, module in model.named_modules():
        for name, tensor in module.named_parameters(recurse=False):
            if name == "logit_scale":
                continue
            if isinstance(module, torch.nn.LayerNorm | torch.nn.BatchNorm2d) and name == "weight":
                # A ResNet block's branch ends in bn3. Small, or the sum over the blocks
                # grows until the attention pool looks at one place only.
                scale = 0.25 if ".layer" in module_name and module_name.endswith(".bn3") else 1
                tensor.copy_(scale * (1 + 0.2 * normal(tensor)))
            elif tensor.ndim == 1 and "bias" in name:
                tensor.copy_(0.2 * normal(tensor))
            elif "embedding" in name or isinstance(module, torch.nn.Embedding):
                tensor.copy_(0.5 * normal(tensor))
            else:
                # CLIP's own projections are [in, out]; all other weights [out, in, ..].
                inputs = tensor.shape[0] if name in ("proj", "text_projection") else tensor[0].numel()
                # Above 1, for attention that is neither even nor on one token.
                tensor.copy_(1.4 * inputs**-0.5 * normal(tensor))
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.copy_(0.2 * normal(module.running_mean))
            module.running_var.copy_(torch.exp(0.3 * normal(module.running_var)))
    return model


def random_open_clip(name: str, seed: int) -> torch.nn.Module:
    return randomize(open_clip.create_model(name), seed)


def open_clip_features(name: str, pretrained: str | None = None) -> dict[str, torch.Tensor]:
    model, preprocess = open_clip.create_model_from_pretrained(name, pretrained)
    images = torch.stack([preprocess(picture) for picture in pictures().values()])
    texts = open_clip.get_tokenizer(name)(TEXTS)
    model.eval()
    with torch.no_grad():
        return {"image_features": model.encode_image(images), "text_features": model.encode_text(texts)}


def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer as `transformers` has it, from the merges that open_clip ships."""
    source = open_clip.SimpleTokenizer()
    renamed = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {renamed.get(token, token): id for token, id in source.encoder.items()}
    return CLIPTokenizer(vocabulary, list(source.bpe_ranks), model_max_length=source.context_length)


def open_clip_vit_b_32(out: Path) -> dict[str, torch.Tensor]:
    """A training checkpoint, as open_clip_train/main.py saves it from distributed training."""
    model = random_open_clip("ViT-B-32", seed=1)
    checkpoint = {
        "epoch": 32,
        "name": "random",
        "state_dict": {f"module.{name}": tensor for name, tensor in model.state_dict().items()},
        "optimizer": torch.optim.AdamW(model.parameters()).state_dict(),
        "scaler": torch.amp.GradScaler("cpu").state_dict(),
    }
    path = out / "open_clip_vit_b_32.pt"
    torch.save(checkpoint, path)
    return open_clip_features("ViT-B-32", str(path))


def open_clip_vit_b_32_quickgelu(out: Path) -> dict[str, torch.Tensor]:
    """A folder as open_clip pushes it to the Hugging Face hub."""
    name = "ViT-B-32-quickgelu"
    folder = out / "open_clip_vit_b_32_quickgelu"
    clip_tokenizer().save_pretrained(folder)
    save_for_hf(
        random_open_clip(name, seed=2),
        tokenizer=open_clip.tokenizer.HFTokenizer(str(folder)),
        model_config=open_clip.get_model_config(name),
        save_directory=folder,
        safe_serialization=True,
    )
    return open_clip_features(f"local-dir:{folder}")


def open_clip_rn50(out: Path) -> dict[str, torch.Tensor]:
    """A bare state dict, with batch statistics in it."""
    path = out / "open_clip_rn50.pt"
    torch.save(random_open_clip("RN50", seed=3).state_dict(), path)
    return open_clip_features("RN50", str(path))


def hugging_face_vit_b_32(out: Path) -> dict[str, torch.Tensor]:
    """A folder as `save_pretrained` writes it."""
    folder = out / "hugging_face_vit_b_32"
    model = CLIPModel(CLIPConfig(projection_dim=512))  # its defaults are ViT-B/32
    randomize(model, seed=4).save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)

    model = CLIPModel.from_pretrained(folder).eval()
    images = CLIPImageProcessorPil.from_pretrained(folder)(list(pictures().values()), return_tensors="pt")
    texts = CLIPTokenizer.from_pretrained(folder)(TEXTS, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        return {
            "image_features": model.get_image_features(**images).pooler_output,
            "text_features": model.get_text_features(**texts).pooler_output,
        }


MODELS = [open_clip_vit_b_32, open_clip_vit_b_32_quickgelu, open_clip_rn50, hugging_face_vit_b_32]


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python make_models.py OUT_DIR")
    out = Path(sys.argv[1])
    (out / "images").mkdir(parents=True, exist_ok=True)
    for name, picture in pictures().items():
        picture.save(out / "images" / f"{name}.png")
    (out / "texts.txt").write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")

    recipe = Path(__file__).read_bytes() + Path(__file__).with_name("requirements.txt").read_bytes()
    made_by = hashlib.sha256(recipe).hexdigest()
    for make in MODELS:
        # The stamp comes last, so that an interrupted run leaves none.
        stamp = out / f"expected_{make.__name__}.made_by"
        if stamp.exists() and stamp.read_text() == made_by:
            print(f"{make.__name__}: already made")
            continue
        stamp.unlink(missing_ok=True)
        features = make(out)
        if not all(torch.isfinite(rows).all() for rows in features.values()):
            sys.exit(f"{make.__name__}: features that are not finite")
        save_file(features, out / f"expected_{make.__name__}.safetensors")
        stamp.write_text(made_by)
        print(f"{make.__name__}: made")


if __name__ == "__main__":
    main()
