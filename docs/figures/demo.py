"""Draws demo.png from what `contextune demo` printed and left behind.

    contextune demo --json > demo.jsonl
    python3 docs/figures/demo.py demo.jsonl contextune docs/figures/demo.png     # needs matplotlib and Pillow

The pictures are every n-th of the test split, whatever becomes of them.
"""

import json
import pathlib
import subprocess
import sys

import matplotlib
import matplotlib.pyplot as plt
from PIL import Image

matplotlib.use("Agg")
PICTURES = 6
GREY, BLUE, GREEN, RED = "#8a8f98", "#2f6fde", "#1a7f37", "#c0392b"


def guesses(contextune, run, pictures):
    """The class that a run gives to each picture."""
    lines = subprocess.run([contextune, "predict", str(run), *map(str, pictures), "--json"],
                           check=True, capture_output=True, text=True).stdout
    return [json.loads(line)["class"] for line in lines.splitlines()]


def lines(name):
    """The name over two lines, where it has several words."""
    words = name.split()
    half = (len(words) + 1) // 2
    return "\n".join(filter(None, (" ".join(words[:half]), " ".join(words[half:]))))


def bars(axes, outcome):
    most, per_class = outcome["class_specific_coop"]
    rows = [("best of 8 templates", outcome["best_template_accuracy"], GREY),
            ("7 templates together", outcome["ensemble_accuracy"], GREY)]
    rows += [(f"CoOp, {shots} shot{'s' * (shots > 1)}", accuracy, BLUE) for shots, accuracy in outcome["coop"]]
    rows += [(f"CoOp, {most} shots, a context per class", per_class, BLUE)]
    for place, (name, accuracy, colour) in enumerate(rows):
        axes.barh(-place, 100 * accuracy, color=colour, height=0.7)
        axes.text(100 * accuracy + 1, -place, f"{100 * accuracy:.1f} %", va="center", fontsize=9)
    axes.set_yticks([-place for place in range(len(rows))], [row[0] for row in rows], fontsize=9)
    chance = 100 / outcome["classes"]
    axes.axvline(chance, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 72)
    axes.set_title(f"{outcome['task']}: {outcome['classes']} classes, {outcome['test_pictures']} test pictures "
                   f"(dotted: chance)", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def main():
    outcomes = [json.loads(line) for line in pathlib.Path(sys.argv[1]).read_text().splitlines()]
    figure = plt.figure(figsize=(12, 2.6 * len(outcomes)), dpi=110)
    grid = figure.add_gridspec(len(outcomes), 2, width_ratios=[1, 1.7], wspace=0.2, hspace=0.5)
    for row, outcome in enumerate(outcomes):
        bars(figure.add_subplot(grid[row, 0]), outcome)
        data = pathlib.Path("contextune-demo/data") / outcome["task"]
        test = json.loads(next(data.glob("split_zhou_*.json")).read_text())["test"]
        shown = [test[place * len(test) // PICTURES + len(test) // PICTURES // 2] for place in range(PICTURES)]
        paths = [data / "images" / path for path, _, _ in shown]
        runs = pathlib.Path(outcome["runs"])
        before = guesses(sys.argv[2], runs / "zeroshot-template", paths)
        after = guesses(sys.argv[2], runs / f"coop-class-specific-{outcome['class_specific_coop'][0]}-shots", paths)
        cells = grid[row, 1].subgridspec(1, PICTURES, wspace=0.15)
        for place, (path, (_, _, name)) in enumerate(zip(paths, shown)):
            axes = figure.add_subplot(cells[0, place])
            axes.imshow(Image.open(path).convert("RGB"))
            axes.set_axis_off()
            axes.set_title(lines(name), fontsize=8)
            for height, guess in ((-0.22, before[place]), (-0.6, after[place])):
                axes.text(0.5, height, lines(guess), transform=axes.transAxes, ha="center", va="center",
                          fontsize=7.5, color=GREEN if guess == name else RED)
            if place == 0:
                for height, what in ((-0.22, "words"), (-0.6, "learned")):
                    axes.text(-0.1, height, what, transform=axes.transAxes, ha="right", va="center", fontsize=8)
    figure.savefig(sys.argv[3], bbox_inches="tight")


if __name__ == "__main__":
    main()
