"""Writes 100 classes of 26 JPEGs, 500 by 375 pixels of smooth noise, as folders: `--work`/pictures/{train,test}/class-N.

They stand for photographs: they decode and scale at the same cost, and teach nothing. 16 pictures of a class are to learn
from, 10 to measure with. With them comes RN50.pt, open_clip's RN50 with random weights.
"""

import time

import numpy
import open_clip
import torch
from PIL import Image

from common import add_work_folder, arguments, report

CLASSES, TRAIN, TEST = 100, 16, 10


def main() -> None:
    parser = arguments(__doc__)
    add_work_folder(parser)
    options = parser.parse_args()
    begin = time.perf_counter()
    folder = options.work / "pictures"
    random = numpy.random.default_rng(0)
    if not (folder / "done").exists():
        for split, count in (("train", TRAIN), ("test", TEST)):
            for label in range(CLASSES):
                place = folder / split / f"class-{label}"
                place.mkdir(parents=True, exist_ok=True)
                for index in range(count):
                    small = random.integers(0, 256, (24, 32, 3), dtype=numpy.uint8)
                    Image.fromarray(small).resize((500, 375), Image.BICUBIC).save(place / f"{index}.jpg", quality=90)
        (folder / "done").touch()
    model = options.work / "RN50.pt"
    if not model.exists():
        torch.manual_seed(0)
        torch.save(open_clip.create_model("RN50").state_dict(), model)
    report([time.perf_counter() - begin], options.threads, measured="make_pictures")


if __name__ == "__main__":
    main()
