#!/usr/bin/env python3
"""Fetches what the icon benchmark is made of, checks it, and unpacks it.

    python3 fetch.py [FOLDER]        (default ./data/icons-sources)

Python 3.11 or newer, standard library only; calls `npm pack` and `pip download`. What is there already and has
the right sha256 is not fetched again.
"""

import gzip
import hashlib
import io
import pickle
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

# (folder, npm package, version, sha256 of the tarball)
NPM = [
    ("noto", "@iconify-json/noto", "1.2.9", "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad"),
    ("twemoji", "@iconify-json/twemoji", "1.2.5", "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7"),
    ("fluent-flat", "@iconify-json/fluent-emoji-flat", "1.2.6",
     "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175"),
    ("emojione", "@iconify-json/emojione", "1.2.3",
     "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e"),
    ("fxemoji", "@iconify-json/fxemoji", "1.2.2", "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef"),
    ("fluent-3d", "@lobehub/fluent-emoji-3d", "1.1.0",
     "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58"),
    ("emojibase-data", "emojibase-data", "17.0.0",
     "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a"),
]
SILHOUETTES = ("animal-mnist", "0.4", "aeebf3d9de4552d6fd2d5701424e1a5b9020f8e5115d68df9db252f2f53ce2ce")
# The order of the labels 0..9 is the alphabetical one of the package's description; the pictures confirm it.
SILHOUETTE_COUNT, SILHOUETTE_SIDE = 10_000, 28


def checked(path, sha256):
    """True if `path` is there with the right content; stops on any other content."""
    if not path.exists():
        return False
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        sys.exit(f"{path}: its sha256 is {found}, expected {sha256}: delete the file and fetch again")
    return True


def fetch(command, path, sha256):
    if not checked(path, sha256):
        subprocess.run(command, cwd=path.parent, check=True, stdout=subprocess.DEVNULL)
        if not checked(path, sha256):
            sys.exit(f"{' '.join(command)} did not write {path}")


def unpack_npm(tarball, target):
    shutil.rmtree(target, ignore_errors=True)
    scratch = target.with_name(target.name + ".part")
    shutil.rmtree(scratch, ignore_errors=True)
    with tarfile.open(tarball) as archive:
        archive.extractall(scratch, filter="data")
    (scratch / "package").rename(target)
    scratch.rmdir()


class Array:
    """Stands for a numpy array: takes in its bytes and its type, runs nothing."""

    def __setstate__(self, state):
        _version, self.shape, self.type, self.fortran_order, self.bytes = state


class Type:
    """Stands for a numpy dtype."""

    def __init__(self, code, *_):
        self.code = code

    def __setstate__(self, state):
        pass


class ArrayUnpickler(pickle.Unpickler):
    """Reads numpy arrays of a pickle without numpy, and refuses every other class or function."""

    KNOWN = {
        ("numpy.core.multiarray", "_reconstruct"): lambda *_: Array(),
        ("numpy", "ndarray"): Array,
        ("numpy", "dtype"): Type,
    }

    def find_class(self, module, name):
        if (module, name) not in self.KNOWN:
            raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}, which an array does not need")
        return self.KNOWN[module, name]


def array(wheel, name, code, shape):
    with wheel.open(f"animal_mnist/data/Animal_MNIST/{name}") as packed, gzip.open(packed) as pickled:
        found = ArrayUnpickler(io.BytesIO(pickled.read())).load()
    if (found.type.code, found.shape, found.fortran_order) != (code, shape, False):
        sys.exit(f"{name}: expected {code} {shape}, found {found.type.code} {found.shape}")
    return found.bytes


def unpack_silhouettes(path, target):
    """Writes pictures.u8 (10,000 x 28 x 28 bytes, white on black) and labels.u8 (10,000 bytes, 0..9)."""
    target.mkdir(exist_ok=True)
    n, side = SILHOUETTE_COUNT, SILHOUETTE_SIDE
    with zipfile.ZipFile(path) as wheel:
        pictures = array(wheel, "animal_data_version_3.gz", "u1", (n, side, side))
        labels = array(wheel, "animal_label_version_3.gz", "i8", (n,))
        (target / "LICENSE").write_bytes(wheel.read("animal_mnist-0.4.dist-info/licenses/LICENSE"))
    (target / "pictures.u8").write_bytes(pictures)
    (target / "labels.u8").write_bytes(labels[::8])  # little-endian i8, all below 256
    if len(pictures) != n * side * side or any(labels[i] for i in range(len(labels)) if i % 8):
        sys.exit("the silhouettes are not what they were when this script was written")


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "data/icons-sources")
    packages = folder / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    for name, package, version, sha256 in NPM:
        tarball = packages / f"{package.removeprefix('@').replace('/', '-')}-{version}.tgz"
        fetch(["npm", "pack", "--silent", f"{package}@{version}"], tarball, sha256)
        unpack_npm(tarball, folder / name)
        print(f"{package} {version} -> {folder / name}")
    package, version, sha256 = SILHOUETTES
    wheel = packages / f"animal_mnist-{version}-py3-none-any.whl"
    fetch([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"{package}=={version}"], wheel, sha256)
    unpack_silhouettes(wheel, folder / "animal-silhouettes")
    print(f"{package} {version} -> {folder / 'animal-silhouettes'}")


if __name__ == "__main__":
    main()
