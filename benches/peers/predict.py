"""Classify one picture with a checkpoint from disk, as open_clip's README does it.

Time this process from outside: what a user waits for is starting Python, importing
PyTorch, reading the weights and one pass through each tower. "seconds" has the part from
this script's first line on. A checkpoint that is missing is made first (and the line says
so): such a run is not the one to time.
"""

import time

begin = time.perf_counter()

import os
import sys
from pathlib import Path

# As on a user's machine: compiled modules are kept, so that only the first run is slow.
sys.dont_write_bytecode = False
# open_clip imports transformers where it finds it, for seconds, and does not require it.
sys.modules["transformers"] = None

import open_clip
import torch
from PIL import Image

from common import add_work_folder, arguments, report


def make_checkpoint(name: str, path: Path) -> None:
    torch.manual_seed(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Renamed into place, so that an interrupted run leaves no half a checkpoint.
    unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
    torch.save(open_clip.create_model(name).state_dict(), unfinished)
    os.replace(unfinished, path)


def classify(name: str, checkpoint: Path, picture: Path, classes: list[str]) -> torch.Tensor:
    """The probability of each class."""
    model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=str(checkpoint))
    model.eval()
    tokenizer = open_clip.get_tokenizer(name)
    image = preprocess(Image.open(picture)).unsqueeze(0)
    text = tokenizer([f"a photo of a {label}." for label in classes])
    with torch.no_grad():
        image_features = model.encode_image(image, normalize=True)
        text_features = model.encode_text(text, normalize=True)
        return (100.0 * image_features @ text_features.T).softmax(dim=-1)[0]


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(repeats=1, warm_ups=0)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--classes", type=Path, required=True, help="a text file, a class name a line")
    parser.add_argument("--model", default="ViT-B-32", help="by open_clip's name")
    parser.add_argument("--model-dir", type=Path, help="folder of MODEL.pt; default: the work folder")
    add_work_folder(parser)
    options = parser.parse_args()
    if (options.repeats, options.warm_ups) != (1, 0):
        parser.error("a cold start cannot be repeated in one process: start the script again")

    torch.set_num_threads(options.threads)
    checkpoint = (options.model_dir or options.work) / f"{options.model}.pt"
    missing = not checkpoint.exists()
    if missing:
        make_checkpoint(options.model, checkpoint)
    classes = [line.strip() for line in options.classes.read_text(encoding="utf-8").splitlines() if line.strip()]
    probabilities = classify(options.model, checkpoint, options.picture, classes)
    best = int(probabilities.argmax())
    report(
        [time.perf_counter() - begin],
        options.threads,
        measured="predict",
        open_clip=open_clip.__version__,
        model=options.model,
        classes=len(classes),
        made_checkpoint=missing,
        predicted=classes[best],
        probability=float(probabilities[best]),
    )


if __name__ == "__main__":
    main()
