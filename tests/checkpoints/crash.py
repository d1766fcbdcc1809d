"""Kill training runs with SIGKILL at random moments, resume each to the end, compare with the run never killed.

    python -m tests.checkpoints.crash [--kills 20] [--seed 0]

The moments: a training step of either stage, or the middle of writing a checkpoint. A run may be killed several times
over. Dropout, mixup and the weights' average are on.
"""
import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = ("torch", "tf", "ms")
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

stage, kind, moment = {stage!r}, {kind!r}, {moment}

def die():
    os.kill(os.getpid(), signal.SIGKILL)

steps, saves = CheckpointSaver.on_batch_end, CheckpointSaver._save

def on_batch_end(self, data):
    steps(self, data)
    if kind == "step" and self.saving.stage == stage and self.step == moment:
        die()

def save(self, phase):
    if kind == "save" and self.saving.stage == stage and self.step >= moment:
        os.replace = lambda *_: die()  # the temporary file is on the disk, and has no name yet
    saves(self, phase)

CheckpointSaver.on_batch_end, CheckpointSaver._save = on_batch_end, save
cli.main(script)
"""


def run(backend: str, arguments: list[str], deadly: tuple[str, str, int] | None = None) -> int:
    """Run a script to its end, or to its deadly moment (stage, "step" or "save", step); returns the exit status."""
    command = [sys.executable, str(ROOT / f"vit_{backend}.py")]
    if deadly:
        stage, kind, moment = deadly
        command = [sys.executable, "-c", DEADLY.format(root=str(ROOT), script=f"vit_{backend}", stage=stage, kind=kind,
                                                       moment=moment)]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False,
                          env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    if done.returncode not in (0, -signal.SIGKILL):
        raise AssertionError(f"{backend} {deadly}: exit status {done.returncode}\n{done.stdout[-2000:]}\n"
                             f"{done.stderr[-4000:]}")
    return done.returncode


def outcome(folder: Path) -> dict:
    """What must be the same: every stage's weights, and the history's file."""
    results = json.loads((folder / "results.json").read_text())
    return {"weights": {name: stage["weights_sha256"] for name, stage in results["stages"].items()},
            "history": (folder / "history.csv").read_bytes()}


def moments(count: int, chance: random.Random) -> list[tuple[str, str, int]]:
    """Deadly moments of one run, in the order in which they come."""
    stages = {"pretrain": EPOCHS * STEPS, "finetune": STEPS}
    steps_of_run = [(stage, step) for stage, steps in stages.items() for step in range(1, steps + 1)]
    return [(stage, chance.choice(["step", "step", "save"]), step)
            for stage, step in sorted(chance.sample(steps_of_run, count), key=steps_of_run.index)]


def chain(backend: str, deadly: list[tuple[str, str, int]], folder: Path) -> dict:
    """One run, killed at each of some moments and resumed, to its end."""
    arguments = [*FLAGS, "--model_dir", str(folder)]
    for moment in deadly:
        status = run(backend, arguments, moment)
        assert status == -signal.SIGKILL, f"{backend}: not killed at {moment}, exit status {status}"
        if list(folder.glob("checkpoints/*.safetensors")):
            arguments = ["--resume", "auto", "--model_dir", str(folder), "--checkpoint_every", "4", "--log_steps", "0"]
        else:  # killed before its first checkpoint: there is nothing to go on with
            arguments = [*FLAGS, "--model_dir", str(folder), "--overwrite"]
    assert run(backend, arguments) == 0
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
            deadly = moments(min(left, chance.choice([2, 3, 4])), chance)
            if backend not in unbroken:
                print(f"{backend}: the run that is never killed ...", flush=True)
                unbroken[backend] = chain(backend, [], Path(scratch) / f"{backend}-whole")
            begin = time.perf_counter()
            same = chain(backend, deadly, Path(scratch) / f"run-{len(rows)}") == unbroken[backend]
            killed = ", ".join(f"{stage} {step}{' (saving)' if kind == 'save' else ''}" for stage, kind, step in deadly)
            rows.append((backend, killed, "the same" if same else "DIFFERENT", f"{time.perf_counter() - begin:.0f} s"))
            print("  ".join(rows[-1]), flush=True)
            left, failed = left - len(deadly), failed + (not same)
    width = max(len(row[1]) for row in rows)
    print(f"\n{'':8}{'killed with SIGKILL at':{width}}  final weights and history")
    for backend, killed, verdict, seconds in rows:
        print(f"{backend:8}{killed:{width}}  {verdict}  {seconds}")
    print(f"{options.kills} kills, {len(rows)} runs, {failed} of them different")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
