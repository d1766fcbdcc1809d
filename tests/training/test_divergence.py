"""A run that diverges is not a result: it stops at the first number that is not finite, and keeps what is good."""
import json

import numpy as np
import pytest

from vit import checkpoints
from vit.backend import load_script

OPTIONS = {"data": "digits", "variant": "tiny", "batch_size": 32, "pretrain_epochs": 1, "finetune_epochs": 1,
           "train_steps_per_epoch": 12, "eval_steps_per_epoch": 1, "log_steps": 0, "checkpoint_every": 1, "keep": 20}


def test_a_diverged_run_stops_and_names_the_last_good_checkpoint(backend, tmp_path, refused):
    with refused("pretrain has diverged", "of step", "the last checkpoint is", "--on_nan continue"):
        load_script(backend).fastestimator_run(**OPTIONS, learning_rate=1e5, model_dir=tmp_path)
    assert not (tmp_path / "results.json").exists() and not (tmp_path / "pretrained.safetensors").exists()
    left = [checkpoints.load(path) for path in checkpoints.list_checkpoints(tmp_path / "checkpoints")]
    assert 0 < len(left) < 12
    assert all(np.isfinite(value).all() for one in left for value in one.weights.values())


def test_one_that_goes_on_all_the_same_shows_no_accuracy_and_writes_no_weights(tmp_path, refused, capsys):
    """The highest of logits that are no numbers would be class 0."""
    with refused("pretrain has diverged", "not finite", "pretrained.safetensors is not written"):
        load_script("torch").fastestimator_run(**OPTIONS, learning_rate=1e5, on_nan="continue", model_dir=tmp_path)
    assert "top-1 nan%" in capsys.readouterr().out
    assert not (tmp_path / "pretrained.safetensors").exists()


@pytest.mark.backend("torch")
def test_losses_that_are_read_seldom_are_the_same(tmp_path, monkeypatch):
    """On an accelerator: every few steps, before each checkpoint and at the end of an epoch."""
    script, options = load_script("torch"), OPTIONS | {"checkpoint_every": 4, "finetune_epochs": 1}
    monkeypatch.setattr("vit.training.traces.history.STEPS_BETWEEN_READS", 5)
    for folder in ("often", "seldom"):
        monkeypatch.setattr(script.backend, "on_accelerator", lambda seldom=folder == "seldom": seldom)
        script.fastestimator_run(**options, model_dir=tmp_path / folder)
    for name in ("pretrain-00000004", "pretrain-00000012", "finetune-00000008"):
        often, seldom = (checkpoints.load(tmp_path / folder / "checkpoints" / f"{name}.safetensors")
                         for folder in ("often", "seldom"))
        for records in ("step_losses", "gradient_norms"):
            assert often.numbers[records].tobytes() == seldom.numbers[records].tobytes()
            assert len(seldom.numbers[records]) == seldom.step
    assert (tmp_path / "often" / "history.csv").read_bytes() == (tmp_path / "seldom" / "history.csv").read_bytes()


@pytest.mark.backend("torch")
def test_a_divergence_that_is_seen_late_names_its_step(tmp_path, monkeypatch, refused):
    script, steps = load_script("torch"), []
    monkeypatch.setattr("vit.training.traces.history.STEPS_BETWEEN_READS", 5)
    for folder in ("often", "seldom"):
        monkeypatch.setattr(script.backend, "on_accelerator", lambda seldom=folder == "seldom": seldom)
        with pytest.raises(ValueError, match="pretrain has diverged") as caught:
            script.fastestimator_run(**OPTIONS, learning_rate=1e5, model_dir=tmp_path / folder)
        steps.append(str(caught.value).split("; the last")[0])
    assert steps[0] == steps[1]


def test_a_healthy_run_is_left_alone(tmp_path):
    results = load_script("torch").fastestimator_run(**OPTIONS | {"train_steps_per_epoch": 2}, model_dir=tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == results


@pytest.mark.parametrize("word", ["maybe", ""])
def test_another_word_for_what_to_do_is_refused(word, tmp_path, refused):
    with refused("on_nan"):
        load_script("torch").fastestimator_run(**OPTIONS, on_nan=word, model_dir=tmp_path)
