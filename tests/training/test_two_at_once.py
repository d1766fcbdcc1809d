"""Two runs that are started into one folder at once: one of them trains, the other is told so in one line."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ["--data", "digits", "--variant", "tiny", "--pretrain_epochs", "1", "--finetune_epochs", "1", "--batch_size",
         "16", "--train_steps_per_epoch", "2", "--eval_steps_per_epoch", "1", "--log_steps", "0"]


@pytest.mark.full
def test_one_wins_and_the_other_is_refused(backend, tmp_path):
    command = [sys.executable, str(ROOT / f"vit_{backend}.py"), *FLAGS, "--model_dir", str(tmp_path / "run")]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}) for _ in range(2)]
    ends = sorted((run.communicate(timeout=300) + (run.returncode, run.pid) for run in both), key=lambda end: end[2])
    (_, _, won, winner), (_, said, lost, _) = ends
    assert (won, lost) == (0, 2), ends
    last = said.strip().splitlines()[-1]
    # Where the two are far apart, the first may have ended before the second looks.
    assert f"another run is writing there (process {winner} on " in last or "of another run: go on with" in last, said
    assert "Traceback" not in said
    assert (tmp_path / "run" / "finetuned.safetensors").exists() and not (tmp_path / "run" / ".lock").exists()
