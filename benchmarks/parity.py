"""How far the three frameworks drift apart in float32 (and in float64), step by step, through FastEstimator.

    python benchmarks/parity.py [--steps 100]

Trains the `tiny` variant on digits from the same weights with the same batches, dropout off, with SGD and with AdamW
(no-decay set, clipping, warm-up and cosine). Writes `benchmarks/parity.md` and `parity.png`.
"""
import argparse
import sys
from itertools import combinations
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tqdm import tqdm

from vit.backend import SCRIPTS, TITLES
from vit.model import parameters
from vit.model.config import VARIANTS
from vit.parity import trajectories
from vit.training.recipe import Recipe

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


def drift(a: trajectories.Trajectory, b: trajectories.Trajectory) -> np.ndarray:
    """The larger relative difference of loss and gradient norm at each step."""
    return np.maximum(np.abs(a.losses - b.losses) / b.losses, np.abs(a.norms - b.norms) / b.norms)


def table(runs: dict, steps: int) -> str:
    """Markdown: a row for each optimizer, dtype and pair; the worst difference up to some steps, and of the weights."""
    marks = [step for step in (1, 10, 30, 100) if step <= steps]
    lines = ["| optimizer | dtype | pair | " + " | ".join(f"to step {mark}" for mark in marks) + " | final weights |",
             "| --- | --- | --- |" + " --- |" * (len(marks) + 1)]
    for (name, dtype), by_backend in runs.items():
        for a, b in combinations(by_backend, 2):
            curve = drift(by_backend[a], by_backend[b])
            rows = trajectories.train_rows(by_backend[a], by_backend[b], np.inf)
            final = max(row.relative for row in rows if "step" not in row.name)
            cells = [f"{curve[:mark].max():.0e}" for mark in marks]
            lines.append(f"| {name} | {dtype} | {TITLES[a]}, {TITLES[b]} | " + " | ".join(cells) + f" | {final:.0e} |")
    return "\n".join(lines) + "\n" + NOTE


def plot(runs: dict, path: Path) -> None:
    """The worst drift of each pair so far, on a logarithmic scale."""
    from matplotlib.figure import Figure
    names = list(dict.fromkeys(name for name, _ in runs))
    figure = Figure(figsize=(5 * len(names), 4.6), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for axis, name in zip(axes, names, strict=True):
        for dtype, style in (("float32", "-"), ("float64", "--")):
            by_backend = runs[name, dtype]
            for (a, b), colour in zip(combinations(by_backend, 2), ("tab:blue", "tab:green", "tab:red"), strict=False):
                curve = np.maximum.accumulate(drift(by_backend[a], by_backend[b]))
                curve[curve == 0] = np.nan  # not one bit apart yet
                axis.semilogy(range(1, len(curve) + 1), curve, style, color=colour, linewidth=1.5,
                              label=f"{TITLES[a]}, {TITLES[b]}, {dtype}")
        axis.axhline(1e-9, color="grey", linestyle=":", linewidth=1)
        axis.annotate("float64's bar", (60, 1.5e-9), color="grey", fontsize=8)
        axis.set_title(f"{name}, tiny, digits10, dropout off")
        axis.set_xlabel("training step")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("worst relative difference so far,\nof loss and gradient norm")
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    steps = parser.parse_args().steps
    config = VARIANTS["tiny"].replace(num_classes=10)
    start = parameters.initial(config, seed=7)
    wanted = [(name, dtype, backend) for name in RECIPES for dtype in ("float32", "float64")
              for backend in SCRIPTS]
    runs: dict = {}
    for name, dtype, backend in tqdm(wanted, desc="trainings", disable=None):
        values = {key: value.astype(dtype) for key, value in start.items()}
        trained = trajectories.train(backend, config, values, RECIPES[name], steps, dtype)
        runs.setdefault((name, dtype), {})[backend] = trained
    text = table(runs, steps)
    (HERE / "parity.md").write_text(text)
    plot(runs, HERE / "parity.png")
    print(text)


if __name__ == "__main__":
    main()
