"""The best model's file: of the epoch with the best accuracy, whole or not at all, and one that every reader takes."""
import errno
import os

import numpy as np
import pytest

from vit.backend import load_script
from vit.checkpoints import restore
from vit.data import load
from vit.files import canonical
from vit.model import parameters
from vit.training import pretrained, run
from vit.training.job import Job, Stage
from vit.training.options import RunOptions
from vit.training.recipe import Recipe

pytestmark = pytest.mark.backend("torch")
RECIPE = Recipe(data="digits", variant="tiny", batch_size=16, finetune_epochs=2, train_steps_per_epoch=4,
                eval_steps_per_epoch=2, learning_rate=0.05, ema_decay=0.9)


class Epoch(dict):
    """What a trace reads of an epoch, and what it writes."""

    def write_with_log(self, key, value):
        self[key] = value


@pytest.fixture
def stage(tmp_path):
    """A function from options to a stage that has a model."""

    def make(**options):
        script = load_script("torch")
        job = Job(script, RECIPE, load("digits"), tmp_path, RunOptions(log_steps=0, **options))
        stage = Stage(job, "finetune", job.data.finetune, 2, job.config(job.data.finetune))
        stage.model = script.from_numpy(script.ViT(stage.config, "float32", "fp32"), _weights(stage, 0))
        stage.model.model_name = stage.name
        return stage

    return make


def _weights(stage, seed):
    return parameters.perturbed(stage.config, seed)


def _end_epoch(stage, saver, seed, accuracy):
    """End an epoch with the weights of a seed; return what the saver reports."""
    stage.job.script.from_numpy(stage.model, _weights(stage, seed))
    epoch = Epoch(accuracy=accuracy)
    saver.on_epoch_end(epoch)
    return {key: value for key, value in epoch.items() if key != "accuracy"}


def _saver(stage):
    from vit.training.traces import BestModelSaver
    return BestModelSaver(stage, stage.model)


def _same(left, right):
    return parameters.sha256(left) == parameters.sha256(right)


def test_the_file_holds_the_weights_of_the_best_epoch(stage, tmp_path, capsys):
    stage = stage()
    saver = _saver(stage)
    assert not (tmp_path / "best").exists()
    reports = [_end_epoch(stage, saver, seed, accuracy) for seed, accuracy in
               enumerate((0.25, 0.75, 0.75, 0.5, float("nan")))]
    assert reports == [{"since_best_accuracy": since, "max_accuracy": best} for since, best in
                       ((0, 0.25), (0, 0.75), (1, 0.75), (2, 0.75), (3, 0.75))]
    path = tmp_path / "best" / "finetune_best_accuracy.safetensors"
    assert list(path.parent.iterdir()) == [path]
    weights, config = canonical.load(path)
    assert config == stage.config and _same(weights, _weights(stage, 1))
    assert capsys.readouterr().out.count(f"finetune: the best model so far is in {path}\n") == 2


def test_it_is_fastestimators_saver_by_name_and_by_what_it_reports(stage):
    from fastestimator.trace.io import BestModelSaver
    saver = _saver(stage())
    assert isinstance(saver, BestModelSaver) and type(saver).__name__ == BestModelSaver.__name__
    assert saver.outputs == ["since_best_accuracy", "max_accuracy"] and saver.fe_monitor_names == {"accuracy"}


def test_it_is_taken_to_finetune_from(stage, tmp_path):
    stage = stage()
    _end_epoch(stage, _saver(stage), 4, 0.5)
    weights, config = pretrained.read(tmp_path / "best" / "finetune_best_accuracy.safetensors", 32, None)
    assert config == stage.config and _same(weights, _weights(stage, 4))


def test_it_goes_on_with_the_state_of_a_checkpoint(stage, tmp_path):
    """Also with an older one's, in which FastEstimator's saver had named a file."""
    stage = stage()
    saver = _saver(stage)
    restore(saver, {"best": 0.5, "since_best": 2, "model_path": "old/best/finetune_best_accuracy.pt"})
    assert saver.model_path is None
    assert _end_epoch(stage, saver, 1, 0.4) == {"since_best_accuracy": 3, "max_accuracy": 0.5}
    assert not (tmp_path / "best").exists()
    assert _end_epoch(stage, saver, 2, 0.6) == {"since_best_accuracy": 0, "max_accuracy": 0.6}
    assert _same(canonical.load(saver.path)[0], _weights(stage, 2))


def _full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_file_before_it_and_is_said(stage, monkeypatch, capsys):
    stage = stage(on_save_error="continue")
    saver = _saver(stage)
    _end_epoch(stage, saver, 1, 0.5)
    before = saver.path.read_bytes()
    monkeypatch.setattr(os, "fsync", _full)
    assert _end_epoch(stage, saver, 2, 0.75) == {"since_best_accuracy": 0, "max_accuracy": 0.75}
    monkeypatch.undo()
    assert capsys.readouterr().err == (f"warning: {saver.path}: the best model could not be written (No space left on "
                                       "device); training goes on\n")
    assert list(saver.path.parent.iterdir()) == [saver.path] and saver.path.read_bytes() == before


def test_a_full_disk_stops_a_training_that_asked_for_it(stage, monkeypatch, refused):
    stage = stage(on_save_error="stop")
    monkeypatch.setattr(os, "fsync", _full)
    with refused("finetune_best_accuracy.safetensors", "No space left", "training stopped", "on_save_error"):
        _end_epoch(stage, _saver(stage), 1, 0.5)


def test_a_folder_that_cannot_be_made_is_said(stage, tmp_path, capsys):
    (tmp_path / "best").write_text("in the way")
    stage = stage()
    _end_epoch(stage, _saver(stage), 1, 0.5)
    assert "finetune_best_accuracy.safetensors: the best model could not be written (File exists)" in (
        capsys.readouterr().err)


def test_weights_that_are_not_finite_are_not_written(stage, capsys):
    stage = stage()
    saver = _saver(stage)
    _end_epoch(stage, saver, 1, 0.5)
    before = saver.path.read_bytes()
    stage.job.script.from_numpy(stage.model, {name: value * np.nan for name, value in _weights(stage, 2).items()})
    saver.on_epoch_end(Epoch(accuracy=0.75))
    err = capsys.readouterr().err
    assert err.startswith(f"warning: {saver.path}: not written: ") and "not finite" in err
    assert "training goes on" in err and err.count("\n") == 1
    assert saver.path.read_bytes() == before


def test_a_run_leaves_the_best_of_its_epochs(tmp_path, monkeypatch):
    """It is the average of the weights that is evaluated, and so it is the average that is saved."""
    from vit.training.traces import EvalHistory
    evaluated, on_epoch_end = [], EvalHistory.on_epoch_end

    def note(trace, data):
        on_epoch_end(trace, data)
        evaluated.append((float(data["accuracy"]), trace.stage.job.script.to_numpy(trace.stage.model)))

    monkeypatch.setattr(EvalHistory, "on_epoch_end", note)
    job = Job(load_script("torch"), RECIPE, load("digits"), tmp_path, RunOptions(log_steps=0))
    run.finetune(job, None)
    accuracy, best = max(evaluated, key=lambda one: one[0])
    assert len(evaluated) == 2
    assert _same(canonical.load(tmp_path / "best" / "scratch_best_accuracy.safetensors")[0], best)
    assert accuracy == max(epoch["accuracy"] for epoch in job.stages[0].history.epochs)
