"""Runs of two workers as a person starts them: one folder, one voice, one end."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vit import checkpoints

pytestmark = pytest.mark.backend("torch")
FLAGS = ["--data", "digits", "--variant", "tiny", "--pretrain_epochs", "1", "--finetune_epochs", "1", "--batch_size",
         "16", "--eval_steps_per_epoch", "2", "--checkpoint_every", "2", "--log_steps", "0"]


_GO_ON = "once all workers have ended, go on with the same command with --resume auto --model_dir"
LAUNCHER = ("vit", "launch", "--backend", "torch", "--nproc", "2")


def _start(repo, folder, *flags, script="vit_torch.py", launcher=LAUNCHER):
    return subprocess.Popen([sys.executable, "-m", *launcher, str(script), *FLAGS, "--model_dir", str(folder), *flags],
                            cwd=repo, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(repo)})


def _training(process, folder):
    """Wait until it trains; return the processes of the ranks."""
    deadline = time.monotonic() + 240
    while not list(folder.glob("checkpoints/pretrain-*.safetensors")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.1)
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def _errors(err):
    """The lines of errors, each in full."""
    assert "Traceback" not in err
    return [line for line in err.splitlines() if "error" in line.lower()]


def test_the_files_are_those_of_one_worker_and_come_once(repo, tmp_path):
    process = _start(repo, tmp_path / "run", "--train_steps_per_epoch", "3",
                     launcher=("torch.distributed.run", "--standalone", "--nproc_per_node", "2"))
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "best", "checkpoints", "classes.json", "curves.png", "finetuned.safetensors", "graph.json", "history.csv",
        "predictions.png", "pretrained.safetensors", "recipe.yaml", "results.json", "times.csv", "train.log"}
    assert out.count("Top-1 accuracy on the test images") == out.count("pretrain: epoch 1/1") == 1
    log = (tmp_path / "run" / "train.log").read_text()
    assert log.count("process ") == log.count("pretrain: epoch 1/1") == log.count("CPU, PyTorch, fp32, 2 workers") == 1
    assert list(json.loads((tmp_path / "run" / "results.json").read_text())["stages"]) == ["pretrain", "finetune"]


@pytest.mark.full
def test_workers_end_early_together_and_share_the_test_images(repo, tmp_path):
    flags = ("--train_steps_per_epoch", "2", "--pretrain_epochs", "9", "--learning_rate", "0", "--val_fraction", "0.1",
             "--early_stopping_patience", "2", "--eval_every", "2")
    found = []
    for folder, launcher in (("one", ()), ("two", LAUNCHER)):
        command = [sys.executable, *(("-m", *launcher) if launcher else ()), "vit_torch.py", *FLAGS, *flags,
                   "--model_dir", str(tmp_path / folder)]
        done = subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=400, check=False,
                              env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(repo)})
        assert done.returncode == 0, done.stderr
        found.append(json.loads((tmp_path / folder / "results.json").read_text())["stages"])
    for name, epochs, evaluated in (("pretrain", [1, 2, 3, 4, 5, 6], [2, 4, 6]), ("finetune", [1], [1])):
        one, two = (stages[name] for stages in found)
        assert [epoch["epoch"] for epoch in one["epochs"]] == [epoch["epoch"] for epoch in two["epochs"]] == epochs
        for stage in (one, two):
            assert [epoch["epoch"] for epoch in stage["epochs"] if "accuracy" in epoch] == evaluated
        assert one["test"]["images"] == two["test"]["images"] == one["images"]["test"]
        assert one["test"]["accuracy"] == two["test"]["accuracy"] and one["test"]["weights"] == two["test"]["weights"]
        assert one["test"]["loss"] == pytest.approx(two["test"]["loss"], rel=1e-5)


def test_a_signal_at_any_rank_stops_all_after_the_same_step(repo, tmp_path):
    process = _start(repo, tmp_path, "--train_steps_per_epoch", "4000")
    os.kill(_training(process, tmp_path)[1], signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert err.count("stopped after step") == 1 and "Traceback" not in err
    checkpoint = checkpoints.newest(tmp_path / "checkpoints", pytest.fail)["pretrain"]
    assert f"[0] stopped after step {checkpoint.step} of pretrain" in err
    assert not (tmp_path / "results.json").exists() and not (tmp_path / ".lock").exists()


def test_a_rank_that_is_killed_ends_the_run(repo, tmp_path):
    process = _start(repo, tmp_path, "--train_steps_per_epoch", "4000")
    pids = _training(process, tmp_path)
    os.kill(pids[1], signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 137
    assert _errors(err) == [f"[0] error: rank 1 of 2 (PyTorch) has ended without a word, as one that is killed; "
                            f"{_GO_ON} {tmp_path}"]
    assert not Path(f"/proc/{pids[0]}").exists()
    checkpoints.newest(tmp_path / "checkpoints", pytest.fail)


@pytest.mark.full
def test_where_the_first_rank_is_killed_another_says_so(repo, tmp_path):
    process = _start(repo, tmp_path, "--train_steps_per_epoch", "4000")
    os.kill(_training(process, tmp_path)[0], signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 137
    assert _errors(err) == [f"[1] error: rank 0 of 2 (PyTorch) has ended without a word, as one that is killed; "
                            f"{_GO_ON} {tmp_path}"]


@pytest.mark.full
def test_a_rank_that_hangs_ends_the_run(repo, tmp_path):
    process = _start(repo, tmp_path, "--train_steps_per_epoch", "4000", "--dist_timeout", "5")
    pids = _training(process, tmp_path)
    os.kill(pids[1], signal.SIGSTOP)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert _errors(err) == ["[0] error: rank 1 of 2 (PyTorch) hangs: the others have waited for it for 5 seconds "
                            f"(--dist_timeout); {_GO_ON} {tmp_path}"]
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.parametrize(("flag", "fragment"), [("--seed", "a recipe"), ("--on_nan", "options")])
def test_ranks_that_differ_are_refused_before_anything_is_written(repo, tmp_path, flag, fragment):
    script = tmp_path / "script.py"
    script.write_text(f"""import os, runpy, sys
sys.path.insert(0, {str(repo)!r})
sys.argv += [{flag!r}, {{"--seed": "01", "--on_nan": ("stop", "continue")}}[{flag!r}][int(os.environ["RANK"])]]
runpy.run_path({str(repo / "vit_torch.py")!r}, run_name="__main__")
""")
    process = _start(repo, tmp_path / "run", script=script)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 2
    assert [line for line in err.splitlines() if "error" in line] == [
        f"[0] error: rank 1 has {fragment} other than rank 0's: all workers of a run need the same command line, "
        "files and code"]
    assert not (tmp_path / "run").exists()
