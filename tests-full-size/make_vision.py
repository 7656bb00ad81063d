"""Golden values for vision transformers as Hugging Face's transformers writes them: ViT, DeiT and DINOv2, tiny and random.

    python make_vision.py ../crates/contextune/tests/golden

Run by hand, with the packages of requirements.txt (torch 2.15.0, transformers 5.23.0, safetensors 0.8.0). Each model is
saved by `save_pretrained` into a folder of its own, with a preprocessor_config.json beside it and, in expected.safetensors,
normalised `pixels` [3, 3, 32, 32], the class token's last hidden state `features` and, of the classifiers, `logits`, all
computed in double precision. DINOv2 has positions for 48 pixels and is asked for 32: they are resized.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    DeiTConfig,
    DeiTForImageClassification,
    Dinov2Config,
    Dinov2Model,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

SIDE = 32
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8}


def randomise(model: PreTrainedModel) -> PreTrainedModel:
    """Weights that are exact in half precision and leave nothing at its beginning: no factor one, no bias zero."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.15
        is_factor = "norm" in name and name.endswith("weight") or "lambda" in name
        parameter.data = (noise + (1.0 if is_factor else 0.0)).half().float()
    return model.eval()


def write(folder: Path, model: PreTrainedModel, backbone: PreTrainedModel, mean: list[float]) -> None:
    model.save_pretrained(folder)
    preprocessor = {
        "crop_size": {"height": SIDE, "width": SIDE},
        "size": {"height": SIDE, "width": SIDE},
        "image_mean": mean,
        "image_std": [0.5, 0.5, 0.5],
        "resample": 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")
    pixels = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = backbone.double()(pixels.double()).last_hidden_state[:, 0]
        expected = {"pixels": pixels, "features": features}
        if model is not backbone:
            expected["logits"] = model.double()(pixels.double()).logits
    save_file({name: tensor.float().contiguous() for name, tensor in expected.items()}, folder / "expected.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out

    mlp = {"intermediate_size": 48, "image_size": SIDE}
    plain = randomise(ViTModel(ViTConfig(**SIZES, **mlp)))
    write(out / "hf_vit", plain, plain, [0.5, 0.5, 0.5])
    classifier = randomise(ViTForImageClassification(ViTConfig(**SIZES, **mlp, num_labels=7)))
    write(out / "hf_vit_classifier", classifier, classifier.vit, [0.5, 0.5, 0.5])
    distilled = randomise(DeiTForImageClassification(DeiTConfig(**SIZES, **mlp, num_labels=7)))
    write(out / "hf_deit", distilled, distilled.deit, [0.485, 0.456, 0.406])
    dinov2 = randomise(Dinov2Model(Dinov2Config(**SIZES, mlp_ratio=2, image_size=48)))
    write(out / "hf_dinov2", dinov2, dinov2, [0.485, 0.456, 0.406])


if __name__ == "__main__":
    main()
