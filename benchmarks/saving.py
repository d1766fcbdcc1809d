"""What checkpoints cost the demo's training: `--checkpoint_every 100` against none but the last.

    python benchmarks/saving.py [--backend torch]

Times each save within one training of the `tiny` variant on digits100 and holds the sum to the time of all steps.
"""
import argparse
import contextlib
import io
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from vit.backend import SCRIPTS, load_script
from vit.training.options import split
from vit.training.run import prepare, pretrain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=SCRIPTS, default="torch")
    parser.add_argument("--steps", type=int, default=600)
    options = parser.parse_args()
    saves = []
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        job = prepare(load_script(options.backend), *split({
            "data": "digits", "variant": "tiny", "batch_size": 32, "pretrain_epochs": 1,
            "train_steps_per_epoch": options.steps, "eval_steps_per_epoch": 1, "log_steps": 0, "checkpoint_every": 100,
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
    seconds = job.stages[0].history.epochs[0]["step_seconds"] * (options.steps - 1)
    steps = seconds - sum(saves)
    print(f"| {options.backend} | {1e3 * steps / options.steps:.1f} ms a step | "
          f"{1e3 * sum(saves) / len(saves):.1f} ms a save | {100 * sum(saves) / steps:.2f} % of the steps' time |")


if __name__ == "__main__":
    main()
