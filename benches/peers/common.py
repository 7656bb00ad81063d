"""What every benchmark here shares: its arguments, its clock and its one line of JSON.

It imports no torch, so that a script that does without can show its own memory.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here needs a download


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with the options that all scripts have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--threads", type=positive, default=len(os.sched_getaffinity(0)), help="threads to compute on")
    parser.add_argument("--repeats", type=positive, default=3, help="timed repeats")
    parser.add_argument("--warm-ups", type=int, default=1, help="untimed runs before them")
    return parser


def add_work_folder(parser: argparse.ArgumentParser) -> None:
    cache = Path(os.environ.get("CONTEXTUNE_TEST_CACHE", Path.home() / ".cache" / "contextune-tests"))
    parser.add_argument("--work", type=Path, default=cache / "peers", help="folder for models that are made once")


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def time_repeats(work: Callable[[], object], repeats: int, warm_ups: int) -> list[float]:
    """Seconds of each of `repeats` runs of `work`, after `warm_ups` that are not timed."""
    for _ in range(warm_ups):
        work()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return seconds


def peak_memory_bytes() -> int:
    """The most physical memory that this process has held so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("/proc/self/status has no VmHWM")


def report(seconds: list[float], threads: int, **measured: object) -> None:
    """Print the line that the benchmark's caller reads."""
    line = {
        "seconds": seconds,
        "peak_memory_bytes": peak_memory_bytes(),
        "threads": threads,
        "torch": version("torch"),
        **measured,
    }
    print(json.dumps(line), flush=True)
