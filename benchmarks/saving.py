"""What checkpoints cost the demo's training: `--checkpoint_every 100` against none but the last.

    python benchmarks/saving.py [--backends torch tf ms]

Times each save within one training of the `tiny` variant on digits100 and holds the sum to the time of all steps. Keeps
what it finds in `benchmarks/saving.json`. Each framework is a process of its own.
"""
import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.contenders.turns import processor_name
from vit.backend import SCRIPTS, load_script
from vit.files.atomic import write_whole
from vit.training.options import split
from vit.training.run import prepare, pretrain

KEPT = HERE / "saving.json"
EVERY = 100  # steps


def measure(backend: str, steps: int) -> dict[str, float]:
    """Train in this process: milliseconds of a step and of a save, and the share of the saves."""
    saves = []
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        job = prepare(load_script(backend), *split({
            "data": "digits", "variant": "tiny", "batch_size": 32, "pretrain_epochs": 1,
            "train_steps_per_epoch": steps, "eval_steps_per_epoch": 1, "log_steps": 0, "checkpoint_every": EVERY,
            "model_dir": folder}))
        job.saves_checkpoints = True
        from vit.training.traces import CheckpointSaver
        whole = CheckpointSaver._save

        def timed(saver, phase):
            begin = time.perf_counter()
            whole(saver, phase)
            if phase == "training":
                saves.append(time.perf_counter() - begin)

        CheckpointSaver._save = timed
        pretrain(job)
    # From the end of the first step on, so without compiling.
    seconds = job.stages[0].history.epochs[0]["step_seconds"] * (steps - 1)
    training = seconds - sum(saves)
    return {"step_ms": 1e3 * training / steps, "save_ms": 1e3 * sum(saves) / len(saves),
            "share": sum(saves) / training}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", nargs="+", choices=SCRIPTS, default=list(SCRIPTS))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)  # a process of one framework
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(measure(options.backends[0], options.steps)))
        return
    kept = json.loads(KEPT.read_text())["found"] if KEPT.exists() else {}
    for backend in options.backends:
        command = [sys.executable, __file__, "--alone", "--backends", backend, "--steps", str(options.steps)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        kept[backend] = json.loads(done.stdout.splitlines()[-1])
        print(f"| {backend} | {kept[backend]['step_ms']:.1f} ms a step | {kept[backend]['save_ms']:.1f} ms a save | "
              f"{kept[backend]['share']:.2%} of the steps' time |")
    content = {"machine": f"{processor_name()}, {os.cpu_count()} cores", "every": EVERY, "found": kept}
    write_whole(KEPT, f"{json.dumps(content, indent=1)}\n".encode())


if __name__ == "__main__":
    main()
