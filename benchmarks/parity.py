"""How far the three frameworks drift apart in float32 (and in float64), step by step, through FastEstimator.

    python benchmarks/parity.py [--steps 100]

Trains the `tiny` variant on digits from the same weights with the same batches, dropout off, with SGD and with AdamW
(no-decay set, clipping, warm-up and cosine). Keeps each step's loss and gradient norm in `benchmarks/parity.json`, and
writes `parity.md` and `parity.png` from it; `--redraw` does the latter alone.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tqdm import tqdm

from benchmarks.lines import PAIRS
from vit.backend import SCRIPTS, TITLES
from vit.files.atomic import write_whole
from vit.model import parameters
from vit.model.config import VARIANTS
from vit.parity import trajectories
from vit.training.recipe import Recipe

KEPT = HERE / "parity.json"
RECIPES = {
    "SGD": Recipe(data="digits", batch_size=16),
    "AdamW": Recipe(data="digits", batch_size=16, optimizer="adamw", learning_rate=1e-3, weight_decay=0.05,
                    decay_bias_and_norm=False, clip_norm=1.0, schedule="cosine", warmup_steps=10),
}
NOTE = """
Relative differences of loss and gradient norm, the worst so far; `tiny`, dropout off, same weights and batches. AdamW's
final float32 weights differ by so much in one place, the key biases: their gradient is zero but for rounding, softmax
being blind to a shift, and Adam divides it by its own size.
"""


def measure(name: str, dtype: str, steps: int) -> dict:
    """Train with one optimizer, in one dtype: a row of those that `kept` returns."""
    config = VARIANTS["tiny"].replace(num_classes=10)
    values = {key: value.astype(dtype) for key, value in parameters.initial(config, seed=7).items()}
    runs = {backend: trajectories.train(backend, config, values, RECIPES[name], steps, dtype) for backend in SCRIPTS}
    pairs = {(a, b): trajectories.train_rows(runs[a], runs[b], np.inf) for a, b in PAIRS}
    return {"optimizer": name, "dtype": dtype,
            "losses": {backend: run.losses.tolist() for backend, run in runs.items()},
            "norms": {backend: run.norms.tolist() for backend, run in runs.items()},
            "weights": {f"{a}-{b}": max(row.relative for row in found if "step" not in row.name)
                        for (a, b), found in pairs.items()}}


def kept() -> list[dict]:
    """The rows that the last measurement left: optimizer, dtype, losses and norms by backend, and how far the final
    weights of each pair are apart, relatively."""
    return json.loads(KEPT.read_text())


def three_curves(rows: list[dict]) -> dict:
    """The row whose curves are shown: AdamW in float64."""
    return next(row for row in rows if (row["optimizer"], row["dtype"]) == ("AdamW", "float64"))


def drift(row: dict, a: str, b: str) -> np.ndarray:
    """The larger relative difference of loss and gradient norm at each step, between two backends of a row."""
    first, second = ([np.array(row[key][backend]) for key in ("losses", "norms")] for backend in (a, b))
    return np.max([np.abs(one - other) / np.abs(other) for one, other in zip(first, second, strict=True)], axis=0)


def table(rows: list[dict]) -> str:
    """Markdown: a row for each optimizer, dtype and pair; the worst difference up to some steps, and of the weights."""
    steps = len(rows[0]["losses"]["torch"])
    marks = [step for step in (1, 10, 30, 100) if step <= steps]
    lines = ["| optimizer | dtype | pair | " + " | ".join(f"to step {mark}" for mark in marks) + " | final weights |",
             "| --- | --- | --- |" + " --- |" * (len(marks) + 1)]
    for row in rows:
        for a, b in PAIRS:
            curve = drift(row, a, b)
            cells = [f"{curve[:mark].max():.0e}" for mark in marks]
            lines.append(f"| {row['optimizer']} | {row['dtype']} | {TITLES[a]}, {TITLES[b]} | " + " | ".join(cells)
                         + f" | {row['weights'][f'{a}-{b}']:.0e} |")
    return "\n".join(lines) + "\n" + NOTE


def plot(rows: list[dict], path: Path) -> None:
    """The worst drift of each pair so far, on a logarithmic scale."""
    from matplotlib.figure import Figure
    names = list(dict.fromkeys(row["optimizer"] for row in rows))
    figure = Figure(figsize=(5 * len(names), 4.8), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for axis, name in zip(axes, names, strict=True):
        for row in (row for row in rows if row["optimizer"] == name):
            filled = row["dtype"] == "float32"
            for shift, ((a, b), style) in enumerate(PAIRS.items()):
                curve = np.maximum.accumulate(drift(row, a, b))
                curve[curve == 0] = np.nan  # not one bit apart yet
                axis.semilogy(range(1, len(curve) + 1), curve, "-" if filled else "--", **style, linewidth=1.8,
                              markerfacecolor=style["color"] if filled else "white", markevery=(6 * shift, 18),
                              label=f"{TITLES[a]}, {TITLES[b]}, {row['dtype']}")
        axis.axhline(1e-9, color="black", linestyle=":", linewidth=1.2)
        axis.annotate("float64's bar", (60, 1.5e-9), fontsize=11)
        axis.set_title(f"{name}, tiny, digits10, dropout off")
        axis.set_xlabel("training step", fontsize=12)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("worst relative difference so far,\nof loss and gradient norm", fontsize=12)
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=10, loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--redraw", action="store_true", help="measure nothing: page and plot of what is kept")
    options = parser.parse_args()
    if not options.redraw:
        wanted = [(name, dtype) for name in RECIPES for dtype in ("float32", "float64")]
        rows = [measure(name, dtype, options.steps) for name, dtype in tqdm(wanted, desc="trainings", disable=None)]
        write_whole(KEPT, f"{json.dumps(rows)}\n".encode())
    text = table(kept())
    (HERE / "parity.md").write_text(text)
    plot(kept(), HERE / "parity.png")
    print(text)


if __name__ == "__main__":
    main()
