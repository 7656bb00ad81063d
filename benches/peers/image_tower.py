"""The image tower of an open_clip model on a batch of pictures, without a gradient.

With PyTorch as open_clip runs it, or with ONNX Runtime on what torch.onnx.export makes of
it. The export is kept in the work folder and made by another process, so that the memory
of ONNX Runtime's process is its own.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from common import add_work_folder, arguments, positive, report, time_repeats

PIXELS = 224


def torch_engine(name: str, pixels: np.ndarray, threads: int) -> Callable[[], object]:
    import open_clip
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    tower = open_clip.create_model(name).eval().visual
    images = torch.from_numpy(pixels)

    def forward() -> torch.Tensor:
        with torch.inference_mode():
            return tower(images)

    return forward


def export(name: str, batch: int, path: Path) -> None:
    """Write the tower for this batch size, as the exporter's defaults have it."""
    import open_clip
    import torch

    torch.manual_seed(0)
    tower = open_clip.create_model(name).eval().visual
    path.parent.mkdir(parents=True, exist_ok=True)
    # Renamed into place, so that an interrupted run leaves no half a model.
    unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
    with torch.no_grad():
        torch.onnx.export(tower, (torch.zeros(batch, 3, PIXELS, PIXELS),), unfinished, external_data=False)
    os.replace(unfinished, path)


def onnx_runtime_engine(name: str, pixels: np.ndarray, threads: int, work: Path) -> Callable[[], object]:
    path = work / f"{name}-batch-{len(pixels)}-torch-{version('torch')}.onnx"
    if not path.exists():
        command = [sys.executable, __file__, "--model", name, "--batch", str(len(pixels)), "--export-to", str(path)]
        # The exporter tells its progress on standard output, which is for one line only.
        subprocess.run(command, check=True, stdout=sys.stderr)

    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: pixels}
    return lambda: session.run(None, inputs)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="ViT-B-32", help="by open_clip's name, with random weights")
    parser.add_argument("--engine", choices=["torch", "onnxruntime"], default="torch")
    parser.add_argument("--batch", type=positive, default=32, help="pictures at once")
    parser.add_argument("--export-to", type=Path, help=argparse.SUPPRESS)
    add_work_folder(parser)
    options = parser.parse_args()
    if options.export_to is not None:
        export(options.model, options.batch, options.export_to)
        return

    pixels = np.random.default_rng(0).standard_normal((options.batch, 3, PIXELS, PIXELS), dtype=np.float32)
    if options.engine == "torch":
        forward = torch_engine(options.model, pixels, options.threads)
    else:
        forward = onnx_runtime_engine(options.model, pixels, options.threads, options.work)
    seconds = time_repeats(forward, options.repeats, options.warm_ups)
    report(
        seconds,
        options.threads,
        measured="image_tower",
        engine=options.engine,
        onnxruntime=version("onnxruntime") if options.engine == "onnxruntime" else None,
        open_clip=version("open_clip_torch"),
        model=options.model,
        batch=options.batch,
    )


if __name__ == "__main__":
    main()
