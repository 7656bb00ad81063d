"""Draws ablations.png from the summary of docs/results/visual-ablations.toml.

    contextune sweep docs/results/visual-ablations.toml
    python3 docs/figures/ablations.py data/results-visual/summary.json docs/figures/ablations.png     # needs matplotlib
"""

import json
import pathlib
import sys

import matplotlib
import matplotlib.pyplot as plt

matplotlib.use("Agg")
COLOURS = {"icon-subgroups": "#0072b2", "animal-silhouettes": "#d55e00"}
# Panel, and what is in it: method of the plan -> label.
PANELS = [
    ("length (tokens, deep)", {f"vpt --tokens {n}" if n != 10 else "vpt": str(n) for n in (1, 5, 10, 50, 100)}),
    ("depth", {"vpt --depth shallow": "first 1", "vpt --depth first-3": "first 3", "vpt": "all 5",
               "vpt --depth first-3-only": "first 3\nonly", "vpt --depth last-3": "last 3",
               "vpt --depth last-3-as-published": "last 3, as\npublished", "vpt --depth last-1": "last 1",
               "vpt --depth shared": "all, shared"}),
    ("location", {"vpt": "prepend,\ndeep", "vpt --depth shallow": "prepend,\nshallow", "vpt --location add": "add,\ndeep",
                  "vpt --location add-1": "add-1,\ndeep", "vpt --location prepend-pixel": "prepend\npixel",
                  "vpt --location pad --tokens 8": "pad 8", "vpt --location below --tokens 3": "below 3"}),
    ("output", {"vpt": "class\ntoken", "vpt --pooling image": "image", "vpt --pooling prompt": "prompt",
                "vpt --pooling image-and-prompt": "image and\nprompt"}),
    ("beginning", {"vpt": "random", "vpt --initial final-class-token": "final\nclass token",
                   "vpt --initial class-tokens-without-last": "without\nlast",
                   "vpt --initial class-tokens-without-first": "without\nfirst"}),
]


def main():
    tables = json.loads(pathlib.Path(sys.argv[1]).read_text())
    results = {table["data"]: {row["method"]: row["entries"][0]["accuracy"] for row in table["rows"]}
               for table in tables}
    figure, rows = plt.subplots(2, 3, figsize=(13, 6.6), dpi=110)
    panels = rows.flatten()
    for axes, (title, methods) in zip(panels, PANELS):
        for number, (data, found) in enumerate(results.items()):
            spreads = [found[method] for method in methods]
            means, deviations = [spread["mean"] for spread in spreads], [spread["deviation"] for spread in spreads]
            places = [place + 0.12 * (2 * number - 1) for place in range(len(methods))]
            line = "-" if title.startswith("length") else ""
            axes.errorbar(places, means, deviations, marker="o", linestyle=line, capsize=3, markersize=5,
                          color=COLOURS[data], label=data)
        axes.set_xticks(range(len(methods)), methods.values(), fontsize=8)
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_ylabel("accuracy in %", fontsize=8)
        axes.tick_params(axis="y", labelsize=8)
        axes.grid(axis="y", color="#e2e4e8")
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].axis("off")
    handles, labels = panels[0].get_legend_handles_labels()
    panels[-1].legend(handles, labels, loc="upper left", frameon=False, title="16 shots, mean ± deviation over seeds 1–3")
    figure.tight_layout()
    figure.savefig(sys.argv[2])


if __name__ == "__main__":
    main()
