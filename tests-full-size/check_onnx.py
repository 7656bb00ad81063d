"""Run exported classifiers in ONNX Runtime.

    python check_onnx.py (MODEL.onnx EXPECTED.safetensors)...

EXPECTED.safetensors has `pixels` [B, 3, size, size] in 0..1 and the `image_features` [B, D]
and `logits` [B, K] that the model must give for them; in the metadata `classnames`.
"""

import json
import sys

import numpy as np
import onnxruntime
from safetensors import safe_open

TOLERANCE = 1e-4


def check(model, expected):
    with safe_open(expected, "np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        class_names = json.loads(file.metadata()["classnames"])
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classnames"]) == class_names, metadata
    pixels = tensors["pixels"]
    (declared,) = session.get_inputs()
    assert (declared.name, declared.shape) == ("pixels", ["batch", *pixels.shape[1:]]), declared
    for declared in session.get_outputs():
        assert declared.shape == ["batch", tensors[declared.name].shape[1]], declared

    for rows in (slice(None), slice(1, 2)):
        logits, features = session.run(["logits", "image_features"], {"pixels": pixels[rows]})
        for name, found in [("logits", logits), ("image_features", features)]:
            wanted = tensors[name][rows]
            assert found.shape == wanted.shape, (model, name, found.shape)
            error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
            assert error <= TOLERANCE, f"{model}: {name} are off by {error:.1e}"


def main():
    files = sys.argv[1:]
    for model, expected in zip(files[::2], files[1::2], strict=True):
        check(model, expected)


if __name__ == "__main__":
    main()
