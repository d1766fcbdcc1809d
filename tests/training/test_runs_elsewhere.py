"""Runs whose set is at s3:// and whose results go there: what they train is what a run of local folders trains."""
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.data.test_image_folder import _make
from vit.backend import load_script
from vit.checkpoints import load as load_checkpoint
from vit.data import sharding
from vit.model.config import VARIANTS
from vit.remote import cache, transfer
from vit.remote.address import parse

pytestmark = pytest.mark.backend("torch")
SET, RUN = parse("s3://bucket/set"), parse("s3://bucket/runs/one")
FIELDS = {"data": "folder", "variant": "tiny", "image_size": 32, "batch_size": 4, "finetune_epochs": 2, "seed": 3,
          "dropout": 0.1, "checkpoint_every": 3, "log_steps": 0}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of images, and its shards."""
    root = _make(tmp_path_factory.mktemp("made") / "colours", train=5, val=2)
    sharding.make(root, root.parent / "shards", per_shard=4)
    return root, root.parent / "shards"


@pytest.fixture(scope="module")
def unbroken(made, tmp_path_factory):
    """How a run of local folders ends."""
    folder = tmp_path_factory.mktemp("unbroken")
    load_script("torch").fastestimator_run(**FIELDS, data_dir=str(made[0]), model_dir=str(folder))
    return _outcome(folder)


@pytest.fixture
def sets(made, s3):
    """The folder, and its shards in S3."""
    for path in made[1].iterdir():
        transfer.put(path, SET / path.name)
    return made[0]


def _outcome(folder):
    """What must be the same: the weights, the history's file, and which files there are."""
    results = json.loads((folder / "results.json").read_text())
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return results["weights_sha256"], (folder / "history.csv").read_bytes(), names


def _there(tmp_path, address=RUN):
    """A copy of a folder in S3."""
    for name in transfer.names(address):
        path = tmp_path / "there" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        transfer.get(address / name, path)
    return tmp_path / "there"


def _texts(folder):
    """All that a run's files say, but for plots."""
    return "".join(path.read_bytes().decode(errors="replace") for path in folder.rglob("*")
                   if path.is_file() and path.suffix != ".png")


def test_a_run_in_s3_is_the_run_of_local_folders(sets, unbroken, tmp_path, capsys):
    capsys.readouterr()
    load_script("torch").fastestimator_run(**FIELDS, data_dir=str(SET), model_dir=str(RUN), resume="auto")
    there = _there(tmp_path)
    assert _outcome(there) == unbroken
    told = capsys.readouterr()
    log = (there / "train.log").read_text()
    assert f"the best model so far is in {RUN}/best/scratch_best_accuracy.safetensors" in log
    assert f"files: {RUN}/ (" in told.out
    assert f"note: {RUN} holds no checkpoint to go on from, so the run starts from the beginning" in told.err
    for secret in (str(cache.folder().parent), os.environ["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in told.out + told.err + _texts(there)


@pytest.mark.full  # three runs
def test_a_run_in_s3_goes_on_from_there_alone(sets, tmp_path, monkeypatch):
    """It began with a model of Python's, which is there as well."""
    script = load_script("torch")
    run = script.fastestimator_run
    model = script.ViT(VARIANTS["tiny"].replace(num_classes=7))
    fields = {**FIELDS, "pretrained": model, "variant": "tiny"}
    run(**fields, data_dir=str(sets), model_dir=str(tmp_path / "local"))
    run(**fields | {"finetune_epochs": 1}, data_dir=str(SET), model_dir=str(RUN))
    monkeypatch.setenv("VIT_CACHE", str(tmp_path / "other"))
    run(resume="auto", resume_override=("finetune_epochs=2", ), model_dir=str(RUN), log_steps=0, checkpoint_every=3)
    there = _there(tmp_path)
    assert _outcome(there)[:2] == _outcome(tmp_path / "local")[:2]
    last = load_checkpoint(there / "checkpoints" / "finetune-00000008.safetensors")
    assert last.options["data_dir"] == str(SET)
    assert last.options["pretrained"] == f"{RUN}/start.safetensors"


# Processes of their own, and a server that ends in the middle.

QUICK = """
import sys
from vit.remote import transfer
transfer.WAITS[:] = [0.5] * 4
import vit_torch
vit_torch.main(vit_torch)
"""
FLAGS = ["--data", "folder", "--data_dir", str(SET), "--variant", "tiny", "--image_size", "32", "--batch_size", "4",
         "--finetune_epochs", "2", "--seed", "3", "--set", "dropout=0.1", "--checkpoint_every", "3", "--log_steps", "0"]
OF_ONE_SAVE = 1_700_000  # bytes, a little less than a checkpoint


def _start(repo, *flags, launcher=("-c", QUICK)):
    return subprocess.Popen([sys.executable, *launcher, *FLAGS, *flags], cwd=repo, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)})


def _ended(process, status):
    out, err = process.communicate(timeout=240)
    assert process.returncode == status, (out, err)
    assert "Traceback" not in err
    return out, err


@pytest.mark.full  # five processes
def test_a_server_that_ends_in_the_middle_of_a_save(repo, sets, unbroken, s3, tmp_path):
    """It comes back, or it does not; then the run goes on without, and another one from what is there."""
    s3.shut_after("in", 2 * OF_ONE_SAVE)
    process = _start(repo, "--model_dir", str(RUN))
    _wait_until(lambda: s3.is_shut, process)
    threading.Timer(1, s3.open).start()
    _, err = _ended(process, 0)
    assert f"note: {RUN}/" in err
    assert "cannot be reached; trying again in 0.5 s" in err
    assert _outcome(_there(tmp_path / "back")) == unbroken

    other = parse("s3://bucket/runs/two")
    s3.shut_after("in", 2 * OF_ONE_SAVE)
    _, err = _ended(_start(repo, "--model_dir", str(other), "--keep", "9"), 2)
    lines = err.splitlines()
    assert any(line.startswith(f"warning: {other}: the checkpoint of step ") and
               line.endswith("could not be written (cannot be reached); training goes on") for line in lines)
    assert lines[-1].startswith(f"error: {other}/")
    assert "cannot be reached; what is not there is in" in lines[-1]
    kept = Path(lines[-1].rpartition("what is not there is in ")[2])
    assert _outcome(kept)[:2] == unbroken[:2]
    s3.open()
    begun = _there(tmp_path / "begun", other)
    assert not (begun / "results.json").exists()
    steps = [load_checkpoint(path).step for path in sorted(begun.glob("checkpoints/*"))]  # all of them whole
    assert steps and steps[-1] < 8
    out, err = _ended(_start(repo, "--model_dir", str(other), "--resume", "auto"), 0)
    assert f"resuming scratch after step {steps[-1]}" in out
    assert "is taken over" in err
    assert _outcome(_there(tmp_path / "end", other))[:2] == unbroken[:2]


@pytest.mark.full  # three processes
def test_a_run_that_is_killed_in_the_middle_of_a_save(repo, sets, unbroken, s3, tmp_path, monkeypatch):
    s3.shut_after("in", 2 * OF_ONE_SAVE)
    process = _start(repo, "--model_dir", str(RUN))
    _wait_until(lambda: s3.is_shut, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    s3.open()
    assert [load_checkpoint(path).step for path in sorted(_there(tmp_path / "begun").glob("checkpoints/*"))]
    out, _ = _ended(_start(repo, "--model_dir", str(RUN), "--resume", "auto"), 0)
    assert "resuming scratch after step" in out
    assert _outcome(_there(tmp_path / "end"))[:2] == unbroken[:2]
    assert list((cache.folder().parent / "runs").iterdir()) == []  # what the killed one has left there as well


@pytest.mark.full  # two processes
def test_a_server_that_ends_in_the_middle_of_a_read(repo, sets, unbroken, s3, tmp_path):
    size = sum(path.stat().st_size for path in (sets.parent / "shards").iterdir())
    s3.shut_after("out", size // 3)
    _, err = _ended(_start(repo, "--model_dir", str(tmp_path / "run"), "--num_workers", "2"), 2)
    line = err.splitlines()[-1]
    assert line.startswith(f"error: {SET}/train-00000")
    assert line.endswith("cannot be reached")
    s3.open()
    _ended(_start(repo, "--model_dir", str(tmp_path / "run"), "--overwrite"), 0)
    assert _outcome(tmp_path / "run") == unbroken


@pytest.mark.full  # two workers
def test_workers_read_and_write_there_as_one_does(repo, sets, s3, tmp_path):
    launcher = ("-m", "vit", "launch", "--backend", "torch", "--nproc", "2", "vit_torch.py")
    process = _start(repo, "--model_dir", str(RUN), "--finetune_epochs", "1", launcher=launcher)
    _ended(process, 0)
    out, _ = _ended(_start(repo, "--model_dir", str(RUN), "--resume", "auto", "--resume_override",
                           "finetune_epochs=2", launcher=launcher), 0)
    assert out.count("Top-1 accuracy") == 1
    assert ".lock" not in transfer.names(RUN)
    assert _outcome(_there(tmp_path))[1].count(b"\n") == 3
    assert list((cache.folder().parent / "runs").iterdir()) == []


def _wait_until(true, process):
    """Wait for what happens while a process runs."""
    for _ in range(1200):
        if true():
            return
        assert process.poll() is None, process.communicate()
        threading.Event().wait(0.1)
    raise AssertionError("it never happened")
