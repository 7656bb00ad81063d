"""Pictures as transformers' image processors and open_clip's transforms prepare them, for many configurations.

    make_preparations.py PICTURES FOLDER

writes FOLDER/expected.safetensors: `NUMBER/PICTURE`, floats [3, side, side], and in its metadata the configuration of each number.
Pictures are lossless files of the folder PICTURES. transformers computes with its Pillow backend; where that differs from the other
by more than rounding (it pads one pixel further), the other.
"""

import json
import sys
from pathlib import Path

import numpy
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.numpy import save_file
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_clip import CLIPImageProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

SIDE = 32
SQUARE = {"height": SIDE, "width": SIDE}
CLIP = {"image_processor_type": "CLIPImageProcessor", "crop_size": SQUARE, "size": {"shortest_edge": SIDE}}
HUGGING_FACE = [
    CLIP,
    {**CLIP, "image_processor_type": None, "feature_extractor_type": "CLIPFeatureExtractor", "size": 40, "crop_size": SIDE},
    {**CLIP, "size": SQUARE},
    {**CLIP, "size": SQUARE, "do_center_crop": False},
    {**CLIP, "size": {"shortest_edge": 39}, "resample": 2},
    {**CLIP, "resample": 1},
    {**CLIP, "resample": 0},
    {**CLIP, "resample": 4},
    {**CLIP, "resample": 5},
    {**CLIP, "do_rescale": False, "image_mean": [122.0, 117.0, 104.0], "image_std": [68.0, 67.0, 70.0]},
    {**CLIP, "rescale_factor": 1 / 127.5, "image_mean": [1.0, 1.0, 1.0], "image_std": [1.0, 1.0, 1.0]},
    {**CLIP, "do_normalize": False},
    {**CLIP, "do_normalize": False, "do_rescale": False},
    {**CLIP, "do_resize": False},
    {"image_processor_type": "ViTImageProcessor", "size": SQUARE},
    {"image_processor_type": "ViTImageProcessorFast", "size": SIDE, "resample": 3},
    {"image_processor_type": "DeiTImageProcessor", "size": {"height": 37, "width": 37}, "crop_size": SQUARE},
    {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 37}, "crop_size": SQUARE},
]
OPEN_CLIP = [
    {},
    {"interpolation": "bilinear", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    {"resize_mode": "squash"},
    {"resize_mode": "longest"},
    {"resize_mode": "longest", "fill_color": 127, "interpolation": "bilinear"},
    {"size": [SIDE, SIDE], "mode": "RGB", "resize_mode": "shortest", "fill_color": 0},
]
PROCESSORS = {
    "CLIP": CLIPImageProcessorPil,
    "ViT": ViTImageProcessorPil,
    "DeiT": DeiTImageProcessorPil,
    "Bit": BitImageProcessorPil,
}


def hugging_face(config):
    name = config.get("image_processor_type") or config["feature_extractor_type"]
    kind = name.removesuffix("Fast").removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    config = {key: value for key, value in config.items() if value is not None and not key.endswith("_type")}
    pads = config.get("do_resize") is False
    processor = (CLIPImageProcessor if pads else PROCESSORS[kind])(**config)
    return lambda picture: numpy.asarray(processor(picture.convert("RGB"), return_tensors="np")["pixel_values"][0])


def open_clip(config):
    transform = image_transform_v2(PreprocessCfg(**{"size": SIDE, **config}), is_train=False)
    return lambda picture: transform(picture).numpy()


def main():
    pictures, folder = map(Path, sys.argv[1:])
    names = ["noise.png", "alpha.png", "tiny.png"]
    tensors, configurations = {}, []
    for format, configs in [(hugging_face, HUGGING_FACE), (open_clip, OPEN_CLIP)]:
        for config in configs:
            prepare = format(config)
            for name in names:
                prepared = prepare(Image.open(pictures / name)).astype(numpy.float32)
                assert prepared.shape == (3, SIDE, SIDE), (config, name, prepared.shape)
                tensors[f"{len(configurations)}/{name}"] = numpy.ascontiguousarray(prepared)
            configurations.append({"format": format.__name__, "config": config})
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "expected.safetensors", {"configurations": json.dumps(configurations)})


if __name__ == "__main__":
    main()
