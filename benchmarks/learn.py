"""Is the learning real, and the same in the three frameworks? Accuracy of two recipes after their last epoch.

    python benchmarks/learn.py [--data_dir DIR] [--epochs 12] [--seeds 3] [--jobs 2]

Trains `recipes/apphub.yaml` and `recipes/small_data.yaml` from scratch on digits100 and, with `--data_dir`, on the
CIFAR-100 that lies there, in each framework, once for each seed; the first also in bfloat16. Only epochs (warm-up in
proportion), batch size, variant and data differ from the files. What is reported is the last epoch, never the best one;
nothing was chosen by the test images.

What each run learned is kept in `benchmarks/learn.json`; those in it are not repeated (`--again` repeats them). Draws
all that is kept there into `benchmarks/learn.md` and `learn.png`, so runs of other lengths (`--epochs 100 --backends
torch`) stand beside the first.
"""
import argparse
import json
import os
import queue
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tqdm import tqdm

from benchmarks import keeping
from benchmarks.lines import FRAMEWORKS
from vit.backend import SCRIPTS, TITLES
from vit.data import load
from vit.training import recipe_file

KEPT = HERE / "learn.json"
RECIPES = ("apphub", "small_data")
# What a run does in a process of its own: a script's pretraining.
STAGE = """
import json, os, sys, time
os.sched_setaffinity(0, {int(sys.argv[3])})  # before a framework counts the cores
from vit.backend import load_script
from vit.model import parameters
from vit.training.options import split
from vit.training.run import prepare, pretrain
backend, options = sys.argv[1], json.loads(sys.argv[2])
job = prepare(load_script(backend), *split({"log_steps": 0, **options}))
pretrain(job)
stage = job.stages[-1]
with open(options["model_dir"] + "/learned.json", "w") as file:
    json.dump({"data": stage.dataset.name, "train": len(stage.dataset.train), "test": len(stage.dataset.test),
               "accuracy": [epoch["accuracy"] for epoch in stage.history.epochs],
               "processor_seconds": time.process_time(),
               "weights_sha256": parameters.sha256(stage.weights)}, file)
"""


class Protocol(NamedTuple):
    """What the runs of one row of the table have in common."""

    data: str
    size: int  # training images: there are several cuts of CIFAR-100
    recipe: str
    variant: str
    batch: int
    epochs: int
    precision: str


class Run(NamedTuple):
    """One training."""

    protocol: Protocol
    seed: int
    backend: str

    @property
    def name(self) -> str:
        """What it is kept under."""
        data, size, recipe, variant, batch, epochs, precision = self.protocol
        return f"{data}{size}-{recipe}-{variant}-batch{batch}-epochs{epochs}-{precision}-seed{self.seed}-{self.backend}"

    @classmethod
    def named(cls, name: str) -> "Run":
        """The inverse of `name`."""
        data, size, recipe, variant, batch, epochs, precision, seed, backend = re.fullmatch(
            r"([a-z]+)(\d+)-(\w+)-(\w+)-batch(\d+)-epochs(\d+)-(\w+)-seed(\d+)-(\w+)", name).groups()
        return cls(Protocol(data, int(size), recipe, variant, int(batch), int(epochs), precision), int(seed), backend)


def options_of(run: Run, data_dir: str | None) -> dict:
    """What `vit.training.run.prepare` is given."""
    protocol = run.protocol
    path = HERE.parent / "recipes" / f"{protocol.recipe}.yaml"
    whole = recipe_file.build(str(path))
    return {"recipe": str(path), "data": protocol.data, "data_dir": data_dir if protocol.data == "cifar" else None,
            "variant": protocol.variant, "batch_size": protocol.batch, "pretrain_epochs": protocol.epochs,
            "seed": run.seed, "precision": protocol.precision,
            "warmup_epochs": whole.warmup_epochs * protocol.epochs / whole.pretrain_epochs}


def learn(backend: str, options: dict, folder: Path, core: int) -> dict:
    """One run on a core."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", STAGE, backend, json.dumps(options | {"model_dir": str(folder.resolve())}),
               str(core)]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise RuntimeError(f"{backend} {options}:\n{done.stderr[-3000:]}")
    return json.loads((folder / "learned.json").read_text())


def spread(values: list[float]) -> str:
    """Mean and standard deviation, in percent."""
    percent = 100 * np.array(values)
    return f"{percent.mean():.1f} ± {percent.std(ddof=1):.1f}" if len(values) > 1 else f"{percent.mean():.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", help="folder with CIFAR-100 (default: digits only)")
    parser.add_argument("--variant", default="tiny")
    parser.add_argument("--batch_size", type=int, default=32, help="smaller than the recipes', for more updates")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, of one core each")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=RECIPES)
    parser.add_argument("--backends", nargs="+", choices=SCRIPTS, default=list(SCRIPTS))
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"],
                        help="others than fp32 for the apphub recipe on digits only")
    parser.add_argument("--folder", type=Path, default=Path("runs/learn"), help="where the runs' files go")
    parser.add_argument("--again", action="store_true", help="repeat the runs that are in benchmarks/learn.json")
    asked = parser.parse_args()
    sets = {"digits": None} | ({"cifar": asked.data_dir} if asked.data_dir else {})
    sizes = {data: len(load(data, folder).pretrain.train) for data, folder in sets.items()}
    runs = [Run(Protocol(data, sizes[data], recipe, asked.variant, asked.batch_size, asked.epochs, precision),
                seed, backend)
            for data, recipe, precision, seed, backend
            in product(sets, asked.recipes, asked.precisions, range(asked.seeds), asked.backends)
            if (backend, precision) != ("ms", "bf16")  # has no such products on CPU
            and (precision == "fp32" or (data, recipe) == ("digits", "apphub"))]
    runs.sort(key=lambda run: (run.protocol.precision != "fp32", run.seed))  # seed by seed
    kept = keeping.read(KEPT)
    due = {run for run in runs if asked.again or run.name not in kept}
    cores = queue.SimpleQueue()
    for core in sorted(os.sched_getaffinity(0))[:asked.jobs]:
        cores.put(core)
    with ThreadPoolExecutor(asked.jobs) as pool, tqdm(total=len(runs), initial=len(runs) - len(due), unit="run") as bar:

        def one(run: Run) -> None:
            core = cores.get()
            try:
                result = learn(run.backend, options_of(run, asked.data_dir), asked.folder / run.name, core)
            finally:
                cores.put(core)
            with keeping.changed(KEPT) as now:
                now[run.name] = result
            bar.update()

        list(pool.map(one, [run for run in runs if run in due]))
    found = grouped(keeping.read(KEPT))
    (HERE / "learn.md").write_text(table(found))
    draw(found, HERE / "learn.png")
    print(table(found))


def order(run: Run) -> tuple:
    """Short trainings first, the digits first, float32 first, the frameworks as everywhere."""
    data, size, recipe, variant, batch, epochs, precision = run.protocol
    backend = list(SCRIPTS).index(run.backend)
    return epochs, data != "digits", size, recipe, variant, batch, precision != "fp32", backend, run.seed


def grouped(kept: dict) -> dict:
    """What is kept as {protocol: {backend: [a result for each seed]}}."""
    found = {}
    for run in sorted(map(Run.named, kept), key=order):
        found.setdefault(run.protocol, {}).setdefault(run.backend, []).append(kept[run.name])
    return found


def table(found: dict) -> str:
    """Markdown: a row for each protocol, a column for each framework."""
    lines = ["Top-1 on the test images after the last epoch, % (chance: 1): mean ± standard deviation of the seeds.",
             "", f"| data (train / test) | recipe | variant | batch | epochs | precision | seeds | "
             f"{' | '.join(TITLES[backend] for backend in SCRIPTS)} |",
             f"|{' --- |' * (7 + len(SCRIPTS))}"]
    for protocol, by_backend in found.items():
        results = next(iter(by_backend.values()))
        seeds = sorted({len(runs) for runs in by_backend.values()})
        cells = [spread([run["accuracy"][-1] for run in by_backend[backend]]) if backend in by_backend else "-"
                 for backend in SCRIPTS]
        name = f"{results[0]['data']} ({results[0]['train']:,} / {results[0]['test']:,})"
        lines.append(f"| {name} | {protocol.recipe} | {protocol.variant} | {protocol.batch} | {protocol.epochs} | "
                     f"{protocol.precision} | {' to '.join(map(str, seeds))} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(found: dict, path: Path) -> None:
    """Accuracy over the epochs: a line for each framework's mean, its seeds' range around it."""
    from matplotlib.figure import Figure
    panels = list(dict.fromkeys(protocol._replace(precision="") for protocol in found))
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(panels):]:
        axis.set_axis_off()
    for axis, panel in zip(axes, panels, strict=False):
        for protocol, by_backend in found.items():
            if protocol._replace(precision="") != panel:
                continue
            for backend, results in by_backend.items():
                curves = 100 * np.array([result["accuracy"] for result in results])
                epochs = np.arange(1, curves.shape[1] + 1)
                style = FRAMEWORKS[backend] | {"markersize": FRAMEWORKS[backend]["markersize"] * 0.7}
                if len(by_backend) == 1:  # under which no other lies
                    style |= {"linewidth": 2}
                if protocol.precision != "fp32":
                    style |= {"linestyle": ":", "linewidth": 1.5, "markerfacecolor": "white"}
                axis.plot(epochs, curves.mean(axis=0), **style, markevery=max(1, len(epochs) // 6),
                          label=f"{TITLES[backend]}, {protocol.precision}")
                axis.fill_between(epochs, curves.min(axis=0), curves.max(axis=0), color=style["color"], alpha=0.15,
                                  linewidth=0)
                axis.set_title(f"{results[0]['data']}, {panel.recipe}, {panel.epochs} epochs")
        axis.set_xlabel("epoch")
        axis.set_ylabel("top-1 on the test images, %")
        axis.set_ylim(0)
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small", loc="lower right")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
