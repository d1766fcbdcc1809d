"""Kill training runs with SIGKILL at random moments, resume each to the end, compare with the run never killed.

    python -m tests.checkpoints.crash [--kills 20] [--seed 0]

The moments: a training step of either stage, or the middle of writing a checkpoint. A run may be killed several times
over. Dropout, mixup and the weights' average are on. Of two runs one has several workers, of which any is killed; it is
resumed by as many, and must end with the same bits, or by other numbers of workers, and must end with the same losses
but for the rounding of float32.
"""
import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = ("torch", "tf", "ms")
KILLED = -signal.SIGKILL, 128 + signal.SIGKILL  # of a process, and of a shell or a launcher
DRIFT = 1e-5  # of a loss, where another number of workers has added its parts in another order
STEPS, EPOCHS = 10, 2
FLAGS = ["--data", "digits", "--variant", "tiny", "--pretrain_epochs", str(EPOCHS), "--finetune_epochs", "1",
         "--train_steps_per_epoch", str(STEPS), "--eval_steps_per_epoch", "2", "--batch_size", "16", "--seed", "3",
         "--checkpoint_every", "4", "--log_steps", "0", "--set", "dropout=0.1", "--set", "drop_path=0.1", "--set",
         "mixup=0.2", "--set", "ema_decay=0.9", "--set", "schedule=cosine", "--set", "optimizer=adamw"]

# Run in place of the script: it is the script, in which one moment is deadly.
DEADLY = """
import os, signal, sys
sys.path[:0] = [{root!r}, *(os.path.join({root!r}, "packages", name) for name in ("fe_compat", "fe_mindspore"))]
import {script} as script
from vit.cli import train as cli
from vit.training.traces import CheckpointSaver

stage, kind, moment, rank = {stage!r}, {kind!r}, {moment}, {rank}
if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
    stage = None  # torchrun has started it again: now it lives

def die():
    os.kill(os.getpid(), signal.SIGKILL)

steps, saves = CheckpointSaver.on_batch_end, CheckpointSaver._save

def on_batch_end(self, data):
    steps(self, data)
    if self.saving.world.rank == rank and kind == "step" and self.saving.stage == stage and self.step == moment:
        die()

def save(self, phase):
    if self.saving.world.rank == rank and kind == "save" and self.saving.stage == stage and self.step >= moment:
        os.replace = lambda *_: die()  # the temporary file is on the disk, and has no name yet
    saves(self, phase)

CheckpointSaver.on_batch_end, CheckpointSaver._save = on_batch_end, save
cli.main(script)
"""


class Moment(NamedTuple):
    """When a run is killed: in a step, or while it saves after it; and which of its workers."""
    stage: str
    kind: str
    step: int
    rank: int = 0


def run(backend: str, arguments: list[str], cache: Path, deadly: Moment | None = None, workers: int = 1) -> bool:
    """Run a script to its end, or to its deadly moment; returns whether it was killed. MindSpore's graphs are kept."""
    variables = {name: value for name, value in os.environ.items() if name != "MS_COMPILER_CACHE_ENABLE"}
    with tempfile.TemporaryDirectory() as scratch:
        script = ROOT / f"vit_{backend}.py"
        if deadly:
            script = Path(scratch) / script.name
            script.write_text(DEADLY.format(root=str(ROOT), script=f"vit_{backend}", stage=deadly.stage,
                                            kind=deadly.kind, moment=deadly.step, rank=deadly.rank))
        launcher = () if workers == 1 else ("-m", "vit", "launch", "--backend", backend, "--nproc", str(workers))
        done = subprocess.run([sys.executable, *launcher, str(script), *arguments], cwd=ROOT, capture_output=True,
                              text=True, check=False,
                              env=variables | {"TF_CPP_MIN_LOG_LEVEL": "3", "XDG_CACHE_HOME": str(cache)})
    if done.returncode not in (0, KILLED[workers > 1]):
        raise AssertionError(f"{backend} {deadly}: exit status {done.returncode}\n{done.stdout[-2000:]}\n"
                             f"{done.stderr[-4000:]}")
    return done.returncode != 0


def outcome(folder: Path) -> dict:
    """What must be the same: every stage's weights, and the history's file."""
    results = json.loads((folder / "results.json").read_text())
    return {"weights": {name: stage["weights_sha256"] for name, stage in results["stages"].items()},
            "history": (folder / "history.csv").read_bytes()}


def same(one: dict, other: dict, workers: list[int]) -> bool:
    """Whether two ends are the same: in each bit, but where numbers of workers have changed."""
    if len(set(workers)) == 1:
        return one == other
    found = [list(csv.DictReader(end["history"].decode().splitlines())) for end in (one, other)]
    return len(found[0]) == len(found[1]) and all(
        abs(float(a[name]) - float(b[name])) <= DRIFT * max(1, float(b[name]))
        for a, b in zip(*found, strict=True) for name in ("train_loss", "eval_loss"))


def moments(count: int, chance: random.Random, workers: list[int]) -> list[Moment]:
    """Deadly moments of one run, in the order in which they come; and with how many workers it is at each of them."""
    stages = {"pretrain": EPOCHS * STEPS, "finetune": STEPS}
    steps_of_run = [(stage, step) for stage, steps in stages.items() for step in range(1, steps + 1)]
    found = []
    chosen = sorted(chance.sample(steps_of_run, count), key=steps_of_run.index)
    for (stage, step), size in zip(chosen, workers, strict=False):
        kind, rank = chance.choice(["step", "step", "save"]), chance.randrange(size)
        found.append(Moment(stage, kind, step, 0 if kind == "save" else rank))  # the first one saves
    return found


def chain(backend: str, deadly: list[Moment], folder: Path, workers: list[int] | None = None) -> dict:
    """One run, killed at each of some moments and resumed, to its end; with so many workers until each, and at last.

    It is started each time with one command line, as by a cluster; before its first checkpoint it begins anew.
    """
    arguments = [*FLAGS, "--model_dir", str(folder), "--resume", "auto"]
    cache = folder.parent / "cache"
    *before, last = workers or [1] * (len(deadly) + 1)
    for moment, count in zip(deadly, before, strict=True):
        assert run(backend, arguments, cache, moment, count), f"{backend}: not killed at {moment}"
    assert not run(backend, arguments, cache, workers=last)
    return outcome(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance, left, rows, failed = random.Random(options.seed), options.kills, [], 0
    with tempfile.TemporaryDirectory() as scratch:
        unbroken = {}
        while left:
            backend = BACKENDS[len(rows) % len(BACKENDS)]
            count = min(left, chance.choice([2, 3, 4]))
            workers = [1] * (count + 1)
            if len(rows) // len(BACKENDS) % 2:
                workers = chance.choice([[2] * (count + 1), [2, *chance.choices([1, 2, 3], k=count)]])
            deadly = moments(count, chance, workers)
            if (backend, workers[0]) not in unbroken:
                print(f"{backend}, workers: {workers[0]}: the run that is never killed ...", flush=True)
                unbroken[backend, workers[0]] = chain(
                    backend, [], Path(scratch) / f"{backend}-{workers[0]}-whole", workers[:1])
            begin = time.perf_counter()
            ended = chain(backend, deadly, Path(scratch) / f"run-{len(rows)}", workers)
            well = same(ended, unbroken[backend, workers[0]], workers)
            killed = ", ".join(f"{at.stage} {at.step}{' (saving)' if at.kind == 'save' else ''}"
                               f"{f' rank {at.rank} of {of}' if of > 1 else ''}"
                               for at, of in zip(deadly, workers, strict=False))
            verdict = "DIFFERENT" if not well else "the same" if len(set(workers)) == 1 else f"within {DRIFT:g}"
            rows.append((backend, f"{killed}; ended by {workers[-1]}", verdict, f"{time.perf_counter() - begin:.0f} s"))
            print("  ".join(rows[-1]), flush=True)
            left, failed = left - len(deadly), failed + (not well)
    width = max(len(row[1]) for row in rows)
    print(f"\n{'':8}{'killed with SIGKILL at':{width}}  final weights and history")
    for backend, killed, verdict, seconds in rows:
        print(f"{backend:8}{killed:{width}}  {verdict}  {seconds}")
    print(f"{options.kills} kills, {len(rows)} runs, {failed} of them different")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
