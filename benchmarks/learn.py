"""Is the learning real, and the same in the three frameworks? Accuracy of two recipes after their last epoch.

    python benchmarks/learn.py [--data_dir DIR] [--epochs 12] [--seeds 3] [--jobs 2]

Trains `recipes/apphub.yaml` and `recipes/small_data.yaml` from scratch on digits100 and, with `--data_dir`, on the
CIFAR-100 that lies there, in each framework, once for each seed; the first also in bfloat16. Only epochs (warm-up in
proportion), batch size, variant and data differ from the files. What is reported is the last epoch, never the best one;
nothing was chosen by the test pictures.

What each run learned is kept in `benchmarks/learn.json`; those in it are not repeated (`--again` repeats them). Writes
`benchmarks/learn.md` and `learn.png`.
"""
import argparse
import json
import os
import queue
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tqdm import tqdm

from vit import backends, recipe_file
from vit.files import write_whole

KEPT = HERE / "learn.json"
RECIPES = ("apphub", "small_data")
COLOURS = {"torch": "tab:red", "tf": "tab:orange", "ms": "tab:blue"}
# What a run does in a process of its own: the first stage of a script.
STAGE = """
import json, os, sys
os.sched_setaffinity(0, {int(sys.argv[3])})  # before a framework counts the cores
from vit import backends, flow, weights
backend, options = sys.argv[1], json.loads(sys.argv[2])
job = flow.prepare(backend, log_steps=0, keep=1, **options)
backends.script(backend).pretrain(job)
stage = job.stages[0]
with open(options["model_dir"] + "/learned.json", "w") as file:
    json.dump({"data": stage.dataset.name, "train": len(stage.dataset.train), "test": len(stage.dataset.test),
               "accuracy": [epoch["accuracy"] for epoch in stage.history.epochs],
               "weights_sha256": weights.sha256(stage.weights)}, file)
"""


def options_of(recipe: str, data: str, seed: int, precision: str, asked: argparse.Namespace) -> dict:
    """What `vit.flow.prepare` is given."""
    path = HERE.parent / "recipes" / f"{recipe}.yaml"
    whole = recipe_file.build(str(path))
    return {"recipe": str(path), "data": data, "data_dir": asked.data_dir if data == "cifar" else None,
            "variant": asked.variant, "batch_size": asked.batch_size, "pretrain_epochs": asked.epochs,
            "seed": seed, "precision": precision,
            "warmup_epochs": whole.warmup_epochs * asked.epochs / whole.pretrain_epochs}


def name_of(run: tuple, asked: argparse.Namespace) -> str:
    """What a run is kept under: all that can be asked for."""
    data, recipe, precision, seed, backend = run
    trained = f"{asked.variant}-batch{asked.batch_size}-epochs{asked.epochs}-{precision}-seed{seed}"
    return f"{data}-{recipe}-{trained}-{backend}"


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
    parser.add_argument("--backends", nargs="+", choices=backends.SCRIPTS, default=list(backends.SCRIPTS))
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"],
                        help="others than fp32 for the apphub recipe on digits only")
    parser.add_argument("--folder", type=Path, default=Path("runs/learn"), help="where the runs' files go")
    parser.add_argument("--again", action="store_true", help="repeat the runs that are in benchmarks/learn.json")
    asked = parser.parse_args()
    sets = ["digits", *(["cifar"] if asked.data_dir else [])]
    runs = [run for run in product(sets, asked.recipes, asked.precisions, range(asked.seeds), asked.backends)
            if (run[4], run[2]) != ("ms", "bf16")  # has no such products on CPU
            and (run[2] == "fp32" or run[:2] == ("digits", "apphub"))]
    names = {run: name_of(run, asked) for run in runs}
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    due = {name for name in names.values() if asked.again or name not in kept}
    cores, lock = queue.SimpleQueue(), threading.Lock()
    for core in sorted(os.sched_getaffinity(0))[:asked.jobs]:
        cores.put(core)
    with ThreadPoolExecutor(asked.jobs) as pool, tqdm(total=len(runs), unit="run") as bar:

        def one(run: tuple) -> None:
            data, recipe, precision, seed, backend = run
            name = names[run]
            if name in due:
                core = cores.get()
                try:
                    result = learn(backend, options_of(recipe, data, seed, precision, asked), asked.folder / name, core)
                finally:
                    cores.put(core)
                with lock:
                    kept[name] = result
                    write_whole(KEPT, (json.dumps(dict(sorted(kept.items())), indent=1) + "\n").encode())
            bar.update()

        list(pool.map(one, sorted(runs, key=lambda run: (run[2] != "fp32", run[3]))))  # seed by seed
    found = {run: kept[names[run]] for run in runs}
    (HERE / "learn.md").write_text(table(found, asked))
    draw(found, HERE / "learn.png")
    print(table(found, asked))


def table(found: dict, asked: argparse.Namespace) -> str:
    """Markdown: a row for each data, recipe and precision, a column for each framework."""
    spread_of = f"mean ± standard deviation of {asked.seeds} seeds" if asked.seeds > 1 else "one seed"
    lines = [f"Top-1 on the test pictures after the last of {asked.epochs} epochs, %: {spread_of}; "
             f"variant `{asked.variant}`, batch {asked.batch_size}.", "",
             f"| data | recipe | precision | {' | '.join(backends.TITLES[b] for b in asked.backends)} | chance |",
             f"| --- | --- | --- | {'--- | ' * len(asked.backends)}--- |"]
    for data, recipe, precision in dict.fromkeys(run[:3] for run in found):
        cells, name = [], ""
        for backend in asked.backends:
            values = [result for run, result in found.items() if run[:3] == (data, recipe, precision)
                      and run[4] == backend]
            cells.append(spread([result["accuracy"][-1] for result in values]) if values else "no products")
            name = f"{values[0]['data']} ({values[0]['train']:,} / {values[0]['test']:,})" if values else name
        lines.append(f"| {name} | {recipe} | {precision} | {' | '.join(cells)} | 1.0 |")
    return "\n".join(lines) + "\n"


def draw(found: dict, path: Path) -> None:
    """Accuracy over the epochs: a line for each framework's mean, its seeds' range around it."""
    from matplotlib.figure import Figure
    panels = list(dict.fromkeys(run[:2] for run in found))
    figure = Figure(figsize=(4.6 * len(panels), 4), layout="constrained")
    for axis, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for precision, backend in dict.fromkeys((run[2], run[4]) for run in found if run[:2] == panel):
            curves = 100 * np.array([result["accuracy"] for run, result in found.items()
                                     if run[:2] == panel and (run[2], run[4]) == (precision, backend)])
            epochs = np.arange(1, curves.shape[1] + 1)
            axis.plot(epochs, curves.mean(axis=0), "--" if precision != "fp32" else "-", color=COLOURS[backend],
                      label=f"{backends.TITLES[backend]}, {precision}")
            axis.fill_between(epochs, curves.min(axis=0), curves.max(axis=0), color=COLOURS[backend], alpha=0.15)
        result = next(result for run, result in found.items() if run[:2] == panel)
        axis.set_title(f"{panel[1]} on {result['data']}")
        axis.set_xlabel("epoch")
        axis.set_ylabel("top-1 on the test pictures, %")
        axis.set_ylim(0)
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
