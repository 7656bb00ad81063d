"""Let PyPI's CUDA build of PyTorch run on the CPU without 2.4 GB of GPU libraries.

PyPI has no CPU build of PyTorch for Linux on x86-64, and the CUDA build refuses to
load without cuBLAS, cuDNN, NCCL and others, although a CPU run never calls them.
This gives each missing library a stand-in that defines the symbols PyTorch asks it
for. Every stand-in function returns 1, an error in all of these interfaces; none is
reached, for `torch.cuda.is_available()` is false without a GPU driver.

Run it with the Python whose torch is to be completed. Needs a C compiler.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection, GNUVerSymSection

# The stand-ins replace only these; anything else that is missing is a real fault.
GPU_LIBRARIES = (
    "libcublas.so", "libcublasLt.so", "libcudnn.so", "libcufft.so", "libcusolver.so",
    "libcusparse.so", "libcusparseLt.so", "libnccl.so", "libnvrtc.so", "libnvshmem_host.so",
)  # fmt: skip


def wanted_symbols(torch_lib: Path) -> dict[str, dict[str, set[str]]]:
    """Per GPU library, per symbol version ("" = none), what PyTorch's libraries import."""
    wanted = defaultdict(lambda: defaultdict(set))
    for path in torch_lib.glob("lib*.so"):
        with path.open("rb") as file:
            elf = ELFFile(file)
            needed, versions, version_of = [], {}, None
            for section in elf.iter_sections():
                if isinstance(section, DynamicSection):
                    needed = [tag.needed for tag in section.iter_tags("DT_NEEDED")]
                elif isinstance(section, GNUVerNeedSection):
                    for library, entries in section.iter_versions():
                        for entry in entries:
                            versions[entry["vna_other"]] = (library.name, entry.name)
                elif isinstance(section, GNUVerSymSection):
                    version_of = section
            gpu = [name for name in needed if name.startswith(GPU_LIBRARIES)]
            for library in gpu:
                wanted[library][""]
            for index, symbol in enumerate(elf.get_section_by_name(".dynsym").iter_symbols()):
                if symbol["st_shndx"] != "SHN_UNDEF" or not symbol.name:
                    continue
                version = version_of.get_symbol(index)["ndx"] if version_of else None
                if version in versions:
                    library, version_name = versions[version]
                    if library in gpu:
                        wanted[library][version_name].add(symbol.name)
                    continue
                # NCCL and cuSPARSELt have no symbol versions; their functions begin
                # with the library's name.
                for library in gpu:
                    if symbol.name.startswith(library.removeprefix("lib").split(".so")[0]):
                        wanted[library][""].add(symbol.name)
    return wanted


def build(library: str, versions: dict[str, set[str]], torch_lib: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, script = Path(folder, "stub.c"), Path(folder, "stub.map")
        symbols = sorted(set().union(*versions.values()))
        source.write_text("".join(f"int {name}(void) {{ return 1; }}\n" for name in symbols))
        named = {version: names for version, names in versions.items() if version}
        command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{library}", str(source)]
        if named:
            script.write_text("".join(
                f"{version} {{ global: {' '.join(f'{name};' for name in sorted(names))} }};\n"
                for version, names in named.items()
            ))  # fmt: skip
            command.append(f"-Wl,--version-script={script}")
        # Renamed into place, so that an interrupted run leaves no half library.
        unfinished = torch_lib / f".{library}.unfinished"
        subprocess.run([*command, "-o", str(unfinished)], check=True)
        os.replace(unfinished, torch_lib / library)


def main() -> None:
    # find_spec, for importing torch is what does not work yet.
    torch = importlib.util.find_spec("torch")
    if torch is None or torch.origin is None:
        sys.exit(f"no torch in {sys.prefix}: install requirements.txt first")
    torch_lib = Path(torch.origin).parent / "lib"
    site_packages = torch_lib.parent.parent
    for library, versions in sorted(wanted_symbols(torch_lib).items()):
        if not any(site_packages.glob(f"nvidia/*/lib/{library}")):
            build(library, versions, torch_lib)


if __name__ == "__main__":
    main()
