"""Draw the plots of README and docs from what the benchmarks have kept, and put in the figures that they quote.

    python benchmarks/figures.py

`make figures` runs `benchmarks/parity.py` before it, which trains the three frameworks. Measures nothing itself.
"""
import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from apphub import drawings
from benchmarks import learn, parity, quoted, results
from benchmarks.lines import FRAMEWORKS
from vit.backend import TITLES
from vit.data import digits
from vit.model.config import VARIANTS

FIGURES = HERE.parent / "docs/figures"
LEAST = 1e-17  # where a difference of 0 is drawn


def draw_curves(row: dict, path: Path) -> None:
    """The three loss curves over each other; beside them how far two of them are from the first.

    Args:
        row: One of `parity.kept()`.
        path: The PNG to write.
    """
    from matplotlib.figure import Figure
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    steps = np.arange(1, len(row["losses"]["torch"]) + 1)
    first = np.array(row["losses"]["torch"])
    for shift, (backend, style) in enumerate(FRAMEWORKS.items()):
        losses = np.array(row["losses"][backend])
        left.plot(steps, losses, **style, markevery=(4 + 8 * shift, 24), label=TITLES[backend])
        if backend != "torch":
            apart = np.maximum(np.abs(losses - first) / first, LEAST)
            marks = {"marker": style["marker"], "color": style["color"], "markeredgecolor": "black"}
            right.semilogy(steps, apart, linestyle="none", markersize=5, markeredgewidth=0.6, **marks,
                           label=f"{TITLES[backend]} to PyTorch")
    left.set_title(f"The loss of {len(steps)} steps, three over each other", fontsize=14)
    left.set_ylabel("cross entropy", fontsize=13)
    right.set_title("How far apart", fontsize=14)
    right.set_ylabel("relative difference of the loss", fontsize=13)
    right.axhline(1e-9, color="black", linestyle=":", linewidth=1.5)
    right.annotate("the bar: 1e-9", (1, 1.6e-9), fontsize=13)
    right.annotate("equal to the bit", (1, LEAST / 12), fontsize=12)
    right.set_ylim(LEAST / 30, 1e-7)
    for axis in (left, right):
        axis.set_xlabel("training step", fontsize=13)
        axis.tick_params(labelsize=12)
        axis.grid(alpha=0.3)
    left.legend(fontsize=13, handlelength=4)
    right.legend(fontsize=12, loc="center right")
    figure.savefig(path, dpi=110)


def draw_model(path: Path) -> None:
    """`tiny`, with a digit going through it."""
    from matplotlib.figure import Figure
    pair = digits.load()
    figure = Figure(figsize=(11, 6.05))  # which makes the letters larger, beside the boxes
    drawings.model(figure, VARIANTS["tiny"].replace(num_classes=10), pair.finetune.test.images[3])
    figure.savefig(path, dpi=130)


def main() -> None:
    FIGURES.mkdir(exist_ok=True)
    draw_curves(parity.three_curves(parity.kept()), FIGURES / "curves.png")
    draw_model(FIGURES / "model.png")
    parity.plot(parity.kept(), HERE / "parity.png")
    learn.draw(learn.grouped(json.loads(learn.KEPT.read_text())), HERE / "learn.png")
    results.draw(results.kept())
    quoted.main()


if __name__ == "__main__":
    main()
