"""What helps a plain ViT with little data? Options that are off by default, each beside the same training without it.

    python benchmarks/little_data.py --data_dir DIR [--epochs 5] [--seeds 3] [--jobs 2] [--options muon ...]

Trains `tiny` on the whole of CIFAR-100 (in DIR, as of `cifar.py`) for a few epochs with AdamW, and with one option
more, once for each seed, in PyTorch: the same images in the same order, crops and flips. Each run has a core of its
own. What is reported is the last epoch; nothing was chosen by the test images, and no option was tuned.

What each run learned is kept in `benchmarks/little_data.json`; those in it are not repeated. Writes all that is kept
there into `benchmarks/little_data.md`.
"""
import argparse
import os
import queue
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tqdm import tqdm

from benchmarks import keeping, learn
from benchmarks.contenders.turns import processor_name
from vit.files.atomic import write_whole

KEPT = HERE / "little_data.json"
BASE = {"data": "cifar", "variant": "tiny", "batch_size": 128, "optimizer": "adamw", "learning_rate": 1e-3,
        "weight_decay": 0.05, "decay_bias_and_norm": False, "schedule": "cosine", "warmup_epochs": 0.5,
        "crop_padding": 4, "cutout_size": 0}
OPTIONS = {
    "none": {}, "pool: mean": {"pool": "mean"}, "initialization: mimetic": {"initialization": "mimetic"},
    "patch_dropout: 0.25": {"patch_dropout": 0.25}, "optimizer: muon": {"optimizer": "muon", "momentum": 0.95},
    "pool: mean, initialization: mimetic": {"pool": "mean", "initialization": "mimetic"},
    # On top of the others' epochs, with a decoder of half the encoder's width, as He et al. have; beside it, what the
    # same time gives without it.
    "mae_epochs: 5, mae_decoder_width: 32": {"mae_epochs": 5, "mae_decoder_width": 32},
    "pretrain_epochs: 8": {"pretrain_epochs": 8},
}


def table(kept: dict) -> str:
    """Markdown: a row for each option; what it gains is of the seeds in pairs."""
    lines = ["# What helps a plain ViT with little data", "", "Written by `python benchmarks/little_data.py`. "
             "`tiny` on CIFAR-100 (50,000 training, 10,000 test images), PyTorch, float32, batch 128, AdamW at 1e-3, "
             "cosine, crops and flips: top-1 after the last epoch, %, mean ± standard deviation of the seeds; what an "
             "option gains over none at the same seed, in points; and what it costs: the processor time of the whole "
             "run, to that of none. No option was tuned, and a few epochs say little of three hundred."]
    for epochs in sorted({run["epochs"] for run in kept.values()}):
        lines += ["", f"## {epochs} epochs", "", "| option | seeds | top-1 | gain | cost |",
                  "| --- | --- | --- | --- | --- |"]
        found = {name: {run["seed"]: run for run in kept.values() if (run["option"], run["epochs"]) == (name, epochs)}
                 for name in OPTIONS}
        plain = found["none"]
        for name, runs in found.items():
            pairs = sorted(set(runs) & set(plain))
            if not pairs:
                continue
            gains = learn.spread([runs[seed]["accuracy"][-1] - plain[seed]["accuracy"][-1] for seed in pairs])
            costs = [runs[seed]["processor_seconds"] / plain[seed]["processor_seconds"] for seed in pairs
                     if "processor_seconds" in runs[seed] and "processor_seconds" in plain[seed]]
            cost = f"{np.median(costs):.2f}" if costs else "-"  # the first runs were not timed
            top1 = learn.spread([run["accuracy"][-1] for run in runs.values()])
            lines.append(f"| {name} | {len(runs)} | {top1} | {gains if name != 'none' else '-'} | {cost} |")
    machines = dict.fromkeys(run["machine"] for run in kept.values())
    return "\n".join([*lines, "", f"{'; '.join(machines)}, a core a run."]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, help="folder with CIFAR-100, as of cifar.py")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, of one core each")
    parser.add_argument("--options", nargs="+", choices=OPTIONS, default=list(OPTIONS), metavar="OPTION",
                        help=f"some of: {'; '.join(OPTIONS)}")
    asked = parser.parse_args()
    kept = keeping.read(KEPT)
    due = [(seed, name) for seed in range(asked.seeds) for name in asked.options
           if f"{name}, epochs {asked.epochs}, seed {seed}" not in kept]
    cores = queue.SimpleQueue()
    for core in sorted(os.sched_getaffinity(0))[:asked.jobs]:
        cores.put(core)

    def one(run: tuple[int, str]) -> None:
        (seed, name), core = run, cores.get()
        try:
            with tempfile.TemporaryDirectory() as folder:
                found = learn.learn("torch", BASE | {
                    "data_dir": asked.data_dir, "pretrain_epochs": asked.epochs, "seed": seed} | OPTIONS[name],
                                    Path(folder), core)
        finally:
            cores.put(core)
        with keeping.changed(KEPT) as now:
            now[f"{name}, epochs {asked.epochs}, seed {seed}"] = {
                "option": name, "epochs": asked.epochs, "seed": seed, "machine": processor_name(), **found}
            write_whole(HERE / "little_data.md", table(now).encode())
        bar.update()

    with ThreadPoolExecutor(asked.jobs) as pool, tqdm(total=len(due), unit="run") as bar:
        list(pool.map(one, due))
    print(table(keeping.read(KEPT)))


if __name__ == "__main__":
    main()
