"""How long a training step takes in each framework, through FastEstimator, as ratios to PyTorch's.

    python benchmarks/speed.py [--variant tiny] [--batch_size 32] [--steps 150] [--rounds 3]

Each training is a process of its own; the frameworks take turns, and the median of each one's rounds is reported.
MindSpore is also run as it comes, with a thread of its own for each step (`vit/backend/mindspore.py` says why not).
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from vit.model.config import VARIANTS

WAYS = {"PyTorch": ("torch", {}), "TensorFlow": ("tf", {}), "MindSpore": ("ms", {}),
        "MindSpore, a thread for each step": ("ms", {"MS_DEV_HOST_BLOCKING_RUN": "0"})}
# What a process does: its last line is the seconds of a step, from the end of the first on (so without compiling).
TRAIN = """
import json, sys
from vit.backend import load_script
from vit.training.options import split
from vit.training.run import prepare, pretrain
job = prepare(load_script(sys.argv[1]), *split({"data": "digits", "pretrain_epochs": 1, "eval_steps_per_epoch": 1,
                                                "log_steps": 0, **json.loads(sys.argv[2])}))
pretrain(job)
print(job.stages[0].history.epochs[0]["step_seconds"])
"""


def step_seconds(backend: str, environment: dict, options: dict) -> float:
    """A training's mean seconds a step."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, "-c", TRAIN, backend, json.dumps(options | {"model_dir": folder})],
                              cwd=HERE.parent, capture_output=True, text=True, check=False,
                              env=os.environ | environment)
    if done.returncode:
        raise RuntimeError(f"{backend}:\n{done.stderr[-3000:]}")
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=VARIANTS, default="tiny")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    if asked.batch_size < 1 or asked.steps < 2 or asked.rounds < 1:
        parser.error("--batch_size and --rounds must be at least 1, --steps at least 2: the first is not timed")
    options = {"variant": asked.variant, "batch_size": asked.batch_size, "train_steps_per_epoch": asked.steps}
    seconds = {way: [] for way in WAYS}
    with tqdm(total=asked.rounds * len(WAYS), unit="run") as bar:
        for _ in range(asked.rounds):
            for way, (backend, environment) in WAYS.items():
                seconds[way].append(step_seconds(backend, environment, options))
                bar.update()
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    print(f"| {asked.variant}, batch {asked.batch_size} | ms a step | to PyTorch |\n| --- | --- | --- |")
    for way, median in medians.items():
        print(f"| {way} | {1000 * median:.0f} | {median / medians['PyTorch']:.1f} |")


if __name__ == "__main__":
    main()
