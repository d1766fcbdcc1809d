"""`eval_every` and `eval_offset`: fewer evaluations, the same training, and the same run where one goes on with it."""
import contextlib
import csv
import io
import re
import shutil

import pytest

from vit import checkpoints
from vit.backend import load_script
from vit.files import canonical
from vit.model import parameters
from vit.model.config import VARIANTS
from vit.training.report import predictions, results

CONFIG = VARIANTS["tiny"].replace(num_classes=10, depth=1)
OPTIONS = {"data": "digits", "batch_size": 16, "train_steps_per_epoch": 3, "eval_steps_per_epoch": 1, "ema_decay": 0.5,
           "finetune_epochs": 5, "accumulate_steps": 2, "log_steps": 0, "keep": 9}
EVERY = {"eval_every": 2, "eval_offset": 1}
EVALUATED = [3, 5]
TIMES = {"train_seconds", "step_seconds", "images_per_second", "eval_seconds"}


def _run(backend, folder, **options):
    """A finetune: its stage in the results, and what it printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        found = load_script(backend).fastestimator_run(model_dir=str(folder), **options)
    return found["stages"]["finetune"], out.getvalue()


def _plain(epochs):
    return [{name: value for name, value in epoch.items() if name not in TIMES} for epoch in epochs]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A file of weights."""
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    canonical.save(path, parameters.initial(CONFIG, 1), CONFIG)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory, start):
    """The folder of a run in PyTorch, its stage and what it printed."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, *_run("torch", folder, pretrained=str(start), **OPTIONS, **EVERY)


@pytest.mark.backend("torch")
def test_some_epochs_are_evaluated_and_all_are_told_of(whole):
    folder, stage, out = whole
    assert [epoch["epoch"] for epoch in stage["epochs"]] == [1, 2, 3, 4, 5]
    assert [epoch["epoch"] for epoch in stage["epochs"] if "accuracy" in epoch] == EVALUATED
    lines = [line for line in out.splitlines() if line.startswith("finetune: epoch")]
    assert ["| test: loss" in line for line in lines] == [epoch in EVALUATED for epoch in range(1, 6)]
    with open(folder / "history.csv") as file:
        assert [row["accuracy"] != "" for row in csv.DictReader(file)] == [epoch in EVALUATED for epoch in range(1, 6)]
    assert re.search(rf" 5 +- +{stage['epochs'][-1]['accuracy']:.1%}\n", out)


@pytest.mark.backend("torch")
def test_the_training_is_the_one_that_is_evaluated_each_time(whole, start, tmp_path):
    stage, _ = _run("torch", tmp_path, pretrained=str(start), **OPTIONS)
    assert whole[1]["weights_sha256"] == stage["weights_sha256"]
    rest = {"eval_loss", "accuracy", "top5"}
    for ours, theirs in zip(_plain(whole[1]["epochs"]), _plain(stage["epochs"]), strict=True):
        assert ours == (theirs if ours["epoch"] in EVALUATED else {
            name: value for name, value in theirs.items() if name not in rest})


@pytest.mark.backend("torch")
def test_each_epoch_has_its_checkpoint_and_the_run_goes_on_from_any(whole, tmp_path):
    """Where an epoch ends within an update, its checkpoint comes with the end of that."""
    folder, stage, _ = whole
    found = [checkpoints.load(path) for path in sorted((folder / "checkpoints").glob("*.safetensors"))]
    assert [(one.step, one.phase) for one in found] == [
        (4, "training"), (6, "trained"), (10, "training"), (12, "trained"), (15, "finished")]
    for one in (found[1], found[2]):
        shutil.copytree(folder, again := tmp_path / str(one.step))
        path = again / "checkpoints" / f"finetune-{one.step:08d}.safetensors"
        resumed, _ = _run("torch", again, resume=str(path), log_steps=0, keep=9)
        assert resumed["weights_sha256"] == stage["weights_sha256"], one.step
        assert _plain(resumed["epochs"]) == _plain(stage["epochs"]), one.step


@pytest.fixture(autouse=True)
def draws_nothing(monkeypatch, whole):
    """Runs beside the whole one leave no plots: they take longer than these trainings."""
    for module, name in ((results, "plot"), (predictions, "draw")):
        monkeypatch.setattr(module, name, lambda *_: None)


@pytest.mark.full
@pytest.mark.backend("torch")
def test_the_rest_can_be_evaluated_each_time(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    path = tmp_path / "run/checkpoints/finetune-00000006.safetensors"
    resumed, _ = _run("torch", tmp_path / "run", resume=str(path), log_steps=0,
                      resume_override=("eval_every=1", "eval_offset=0"))
    assert [epoch["epoch"] for epoch in resumed["epochs"] if "accuracy" in epoch] == [2, 3, 4, 5]
    assert resumed["weights_sha256"] == whole[1]["weights_sha256"]


@pytest.mark.full
@pytest.mark.backend("torch", "tf", "ms")
@pytest.mark.parametrize("other", ["tf", "ms"])
def test_another_framework_goes_on_with_it(other, whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    path = tmp_path / "run/checkpoints/finetune-00000006.safetensors"
    resumed, _ = _run(other, tmp_path / "run", resume=str(path), log_steps=0)
    assert [epoch["epoch"] for epoch in resumed["epochs"] if "accuracy" in epoch] == EVALUATED
    for ours, theirs in zip(_plain(resumed["epochs"]), _plain(whole[1]["epochs"]), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)
