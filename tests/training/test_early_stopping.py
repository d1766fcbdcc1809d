"""The end of a stage that gets no better: after which epoch, in a run that goes on, and what the results say."""
import dataclasses
import json
import math

import numpy as np
import pytest

from vit import checkpoints
from vit.backend import load_script
from vit.training.history import evaluations_since_best
from vit.training.report import predictions, results

RNG = np.random.default_rng(0)
IMAGES = (RNG.integers(0, 256, (48, 8, 8, 3), dtype=np.uint8), np.arange(48) % 3)
OPTIONS = {"train_dataset": IMAGES, "eval_dataset": IMAGES, "variant": "tiny", "batch_size": 24, "finetune_epochs": 9,
           "learning_rate": 0.0, "log_steps": 0, "quiet": True, "crop_padding": 0, "cutout_size": 0}


@pytest.mark.parametrize(("accuracies", "since"), [
    ([], 0), ([0.1], 0), ([0.1, 0.1], 1), ([0.1, 0.2, 0.3], 0), ([0.3, 0.2, 0.1], 2), ([0.3, 0.2, 0.4, 0.4, 0.1], 2),
    ([math.nan], 1), ([0.1, math.nan, 0.2], 0), ([0.0], 0), ([0.3, None, None, 0.2], 1)])
def test_evaluations_without_a_better_one_are_counted(accuracies, since):
    """Epochs that were not evaluated do not count."""
    assert evaluations_since_best([{} if one is None else {"accuracy": one} for one in accuracies]) == since


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Leave the plots out, which take most of these runs' time."""
    monkeypatch.setattr(predictions, "draw", lambda *_: None)
    monkeypatch.setattr(results, "plot", lambda *_: None)


def _run(folder, patience, **options):
    content = load_script("torch").fastestimator_run(**OPTIONS | options, model_dir=folder,
                                                     early_stopping_patience=patience)
    stage = content["stages"]["scratch"]
    return [epoch["epoch"] for epoch in stage["epochs"]], stage["stopped_early"]


@pytest.mark.backend("torch")
def test_a_stage_ends_after_its_patience_and_goes_on_for_more(tmp_path):
    assert _run(tmp_path, 2) == ([1, 2, 3], True)
    log = (tmp_path / "train.log").read_text()
    assert "scratch: ends after epoch 3 of 9: 2 evaluations were no better than the best" in log
    newest = max(checkpoints.list_checkpoints(tmp_path / "checkpoints"))
    ended = checkpoints.load(newest)
    assert (ended.phase, ended.epoch) == ("finished", 3)
    # It may have been killed when the end was known, and not saved.
    checkpoints.save(newest, dataclasses.replace(ended, phase="evaluated"))
    assert _run(tmp_path, 2, resume="auto") == ([1, 2, 3], True)
    assert len(json.loads((tmp_path / "results.json").read_text())["stretches"]) == 1  # nothing was trained
    changes = ["early_stopping_patience=8", "finetune_epochs=5"]
    assert _run(tmp_path, 8, resume="auto", resume_override=changes, finetune_epochs=5) == ([1, 2, 3, 4, 5], False)


@pytest.mark.full
@pytest.mark.backend("torch")
def test_a_run_that_is_stopped_ends_where_it_would_have(tmp_path):
    """At the first step of the third epoch."""
    from vit.training.traces import CheckpointSaver
    with pytest.MonkeyPatch.context() as patch:
        steps = CheckpointSaver.on_batch_begin

        def stop(trace, data):
            if trace.step == 4:
                trace.request.status = 143
            steps(trace, data)

        patch.setattr(CheckpointSaver, "on_batch_begin", stop)
        with pytest.raises(SystemExit):
            _run(tmp_path, 2)
    assert _run(tmp_path, 2, resume="auto") == ([1, 2, 3], True)
    assert len(json.loads((tmp_path / "results.json").read_text())["stretches"]) == 2
