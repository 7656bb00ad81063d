"""Golden values for side-tuning: logits, loss and gradients with a tiny AlexNet beside given encoder features.

    python make_side.py ../crates/contextune/tests/golden

Run by hand, with the packages of requirements.txt (torch 2.15.0, torchvision 0.29.2, safetensors 0.8.0). The
convolutional part of AlexNet is written down here once more, in double precision; the script first compares it with
torchvision's, at full size and random weights, and stops if they differ. The rest follows KMnP/vpt
(src/models/vit_models.py, `setup_side` and `forward`):

    side   = flatten(averages(features(pixels))) @ side_projection.weight.T
    x      = sigmoid(side_alpha) * encoded + (1 - sigmoid(side_alpha)) * side
    logits = x @ head.weight.T + head.bias

The averages are those of 6 x 6 cells, the identity for pictures of 224 pixels. Here the cells are more than the map has, so
neighbouring ones repeat its values.

    alexnet_tiny.pth             random weights, exact in half precision, under torchvision's names; channels, not
                                 layers, are fewer. The classifier's tensors are there, with shapes that fit nothing:
                                 to be ignored. A zip archive, as torch.save writes today
    side_tuning.safetensors      `pixels` [2, 3, 95, 95] as the network takes them, `encoded` [2, 12], `labels`, the
                                 parameters `side_projection.weight`, `side_alpha`, `head.weight` and `head.bias`; the
                                 flattened `side_features`, `logits`, the mean cross-entropy `loss` and its gradients,
                                 `grad.` before the name, at all parameters: those four and `features.*`
"""

import argparse
import json
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from torchvision.models import AlexNet

CHANNELS = [4, 6, 8, 6, 5]
PICTURES, SIDE, WIDTH, CLASSES = 2, 95, 12, 4
ALPHA = 0.3
CELLS = 6
# Pre-activations keep away from 0 and the two largest of a window from each other, so that no rounding in single
# precision decides a gradient.
MARGIN = 2e-5


class Convolution(NamedTuple):
    name: str
    kernel: int
    stride: int
    padding: int
    pooled: bool


CONVOLUTIONS = [
    Convolution("features.0", 11, 4, 2, True),
    Convolution("features.3", 5, 1, 2, True),
    Convolution("features.6", 3, 1, 1, False),
    Convolution("features.8", 3, 1, 1, False),
    Convolution("features.10", 3, 1, 1, True),
]


def features(tensors: dict[str, Tensor], images: Tensor) -> tuple[Tensor, float]:
    """The maps after the last pooling, and how far the nearest choice of ReLU or pooling is from another outcome."""
    margin = float("inf")
    for layer in CONVOLUTIONS:
        weight, bias = tensors[f"{layer.name}.weight"], tensors[f"{layer.name}.bias"]
        images = F.conv2d(images, weight, bias, layer.stride, layer.padding)
        margin = min(margin, images.abs().min().item())
        images = images.relu()
        if layer.pooled:
            windows = images.detach().unfold(2, 3, 2).unfold(3, 3, 2).flatten(4)
            first, second = windows.topk(2).values.unbind(-1)
            margin = min(margin, (first - second)[first > 0].min().item())
            images = F.max_pool2d(images, 3, 2)
    return images, margin


def averages(maps: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(maps, CELLS).flatten(1)


def side_tuned(tensors: dict[str, Tensor], pixels: Tensor, encoded: Tensor) -> tuple[Tensor, Tensor, float]:
    """Flattened features [B, F] of the side network, logits [B, K] and the margin."""
    maps, margin = features(tensors, pixels)
    flat = averages(maps)
    share = torch.sigmoid(tensors["side_alpha"])
    mixed = share * encoded + (1 - share) * (flat @ tensors["side_projection.weight"].T)
    return flat, mixed @ tensors["head.weight"].T + tensors["head.bias"], margin


def random_tensors(seed: int) -> tuple[OrderedDict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """The checkpoint, what is trained beside it, and the inputs."""
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator)
    exact = lambda values: values.half().float()
    checkpoint, inputs = OrderedDict(), 3
    for layer, outputs in zip(CONVOLUTIONS, CHANNELS, strict=True):
        # Keeps the size of activations: ReLU halves the mean square, the largest of nine has about 2.5 times of it.
        scale = ((0.4 if layer.pooled else 2) / (inputs * layer.kernel**2)) ** 0.5
        checkpoint[f"{layer.name}.weight"] = exact(scale * normal(outputs, inputs, layer.kernel, layer.kernel))
        checkpoint[f"{layer.name}.bias"] = exact(0.25 * normal(outputs))
        inputs = outputs
    for index, outputs, inputs in [(1, 3, 7), (4, 3, 3), (6, 2, 3)]:
        checkpoint[f"classifier.{index}.weight"] = exact(normal(outputs, inputs))
        checkpoint[f"classifier.{index}.bias"] = exact(normal(outputs))

    pictures = {"pixels": normal(PICTURES, 3, SIDE, SIDE), "encoded": normal(PICTURES, WIDTH)}
    flat = averages(features(checkpoint, pictures["pixels"])[0]).shape[1]
    trained = {
        "side_projection.weight": normal(WIDTH, flat) / flat**0.5,
        "side_alpha": torch.tensor([ALPHA]),
        "head.weight": normal(CLASSES, WIDTH) / WIDTH**0.5,
        "head.bias": 0.25 * normal(CLASSES),
    }
    return checkpoint, trained, pictures


def with_gradients(
    tensors: dict[str, Tensor], pictures: dict[str, Tensor], labels: Tensor, kind: torch.dtype
) -> tuple[dict[str, Tensor], float]:
    parameters = {name: value.to(kind).requires_grad_() for name, value in tensors.items()}
    flat, logits, margin = side_tuned(parameters, pictures["pixels"].to(kind), pictures["encoded"].to(kind))
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    found = {"side_features": flat.detach(), "logits": logits.detach(), "loss": loss.detach().reshape(1)}
    return found | {f"grad.{name}": value.grad for name, value in parameters.items()}, margin


def relative(found: Tensor, expected: Tensor) -> float:
    return (torch.linalg.norm(found - expected) / torch.linalg.norm(expected)).item()


def check(tiny: dict[str, Tensor]) -> None:
    """Compares `features` and the checkpoint's names with torchvision's network."""
    torch.manual_seed(0)
    model = AlexNet().double().eval()
    modelled = {name: value.dim() for name, value in model.state_dict().items()}
    found = {name: value.dim() for name, value in tiny.items()}
    assert list(found.items()) == list(modelled.items()), "the tiny checkpoint does not look like torchvision's"
    with torch.no_grad():
        for height, width in [(224, 224), (SIDE, SIDE), (98, 131)]:
            pixels = torch.randn(1, 3, height, width, dtype=torch.float64)
            theirs, ours = model.features(pixels), features(model.state_dict(), pixels)[0]
            error = relative(ours, theirs)
            print(f"{height} x {width}: features {list(ours.shape)} are {error:.1e} away from torchvision's")
            assert error < 1e-12, "this is not torchvision's network"
            if height == width == 224:
                assert torch.equal(model.avgpool(theirs), theirs), "the average is not the identity"


def write(golden: Path) -> None:
    labels = torch.tensor([1, 3])
    seed, margin, silent = 0, 0.0, True
    while margin < MARGIN or silent:
        seed += 1
        checkpoint, trained, pictures = random_tensors(seed)
        tensors = {name: value for name, value in checkpoint.items() if name.startswith("features.")} | trained
        found, margin = with_gradients(tensors, pictures, labels, torch.float64)
        # Every channel takes part.
        silent = any((found[f"grad.{layer.name}.bias"] == 0).any() for layer in CONVOLUTIONS)
    check(checkpoint)

    print(f"seed {seed}: ReLU and pooling decide by at least {margin:.1e}")
    single, _ = with_gradients(tensors, pictures, labels, torch.float32)
    for name, expected in found.items():
        size, error = expected.square().mean().sqrt(), relative(single[name], expected)
        print(f"{name} {list(expected.shape)}: size {size:.3g}, PyTorch in single precision {error:.1e} away")

    # What state_dict() of a module leaves on the dict.
    checkpoint._metadata = OrderedDict({"": {"version": 1}})
    torch.save(checkpoint, golden / "alexnet_tiny.pth")
    metadata = {
        "made_by": f"tests-full-size/make_side.py, torch {torch.__version__}, double precision",
        "weights": f"alexnet_tiny.pth, random, seed {seed}",
        "channels": json.dumps(CHANNELS),
    }
    stored = {name: value.float().contiguous() for name, value in (pictures | trained | found).items()}
    save_file(stored | {"labels": labels}, golden / "side_tuning.safetensors", metadata)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("golden", type=Path, help="folder to write to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    write(arguments.golden)


if __name__ == "__main__":
    main()
