"""Runs as a source of weights: checkpoints, their folders and run folders, and which file of a folder counts."""
import os
import shutil

import numpy as np
import pytest

from tests.checkpoints.test_serialization import CONFIG, _some, make
from tests.convert.conftest import convert_command
from vit import checkpoints, convert
from vit.convert import containers
from vit.files import canonical
from vit.files.untrusted import MAX_HEADER_BYTES
from vit.training import pretrained


@pytest.fixture
def folder(tmp_path):
    """A run's folder with an empty folder of checkpoints."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    return tmp_path / "run"


def _save(folder, stage, step, seed, **changes):
    """A checkpoint whose weights are those of a seed."""
    path = folder / "checkpoints" / f"{stage}-{step:08d}.safetensors"
    checkpoints.save(path, make(stage=stage, step=step, weights=_some(seed), **{"ema": None} | changes))
    return path


def _finish(folder, name, seed):
    canonical.save(folder / f"{name}.safetensors", _some(seed), CONFIG)


def _taken(path, seed, *fragments):
    """A path stands for the weights of a seed, and one note holds the fragments."""
    weights, config, report = convert.read(path)
    assert config == CONFIG
    assert {name: value.tobytes() for name, value in weights.items()} == {
        name: value.tobytes() for name, value in _some(seed).items()}
    assert any(all(str(one) in note for one in fragments) for note in report.notes), report.notes
    return report


def test_a_checkpoint_is_its_weights(folder):
    path = _save(folder, "pretrain", 7, seed=1)
    report = _taken(path, 1, "the weights after step 7 of pretrain", "epoch 2, training")
    assert "checkpoint of a run" in report.recognised
    shutil.copy(path, folder / "mine.safetensors")
    _taken(folder / "mine.safetensors", 1, "step 7")


def test_the_moving_average_comes_before_the_weights(folder):
    path = _save(folder, "finetune", 7, seed=1, ema=_some(4))
    _taken(path, 4, "the moving average of the weights (EMA) after step 7 of finetune")
    _taken(folder, 4, "moving average")


def test_a_checkpoint_may_have_a_longer_header_than_other_files(folder):
    """A history grows with the run."""
    steps = MAX_HEADER_BYTES // 4
    history = make().history | {"step_sizes": [16] * steps, "first_steps": [0, steps - 3]}
    numbers = {name: np.ones(steps) for name in ("step_losses", "gradient_norms")}
    _taken(_save(folder, "pretrain", steps, 1, history=history, numbers=numbers), 1, f"step {steps}")


@pytest.mark.parametrize("name", ["finetune-00000006", "finetune-00000009"])
def test_checkpoints_of_format_1(repo, name):
    """One of the two begins otherwise than the files of today."""
    path = repo / "tests" / "fixtures" / "7d1c055" / "run" / "checkpoints" / f"{name}.safetensors"
    weights, _, report = convert.read(path)
    expected = checkpoints.load(path)
    expected = expected.ema or expected.weights
    assert all(np.array_equal(weights[one], value) for one, value in expected.items())
    assert f"step {int(name[-1])} of finetune" in "".join(report.notes)


@pytest.mark.parametrize(("there", "taken"), [
    (("finetuned", "scratch", "pretrained"), "finetuned"), (("scratch", "pretrained"), "scratch"),
    (("pretrained",), "pretrained")])
def test_a_finished_run_is_the_weights_of_its_last_stage(folder, there, taken):
    seeds = {"finetuned": 1, "scratch": 2, "pretrained": 3}
    for name in there:
        _finish(folder, name, seeds[name])
    _save(folder, "pretrain", 7, seed=4)
    report = _taken(folder, seeds[taken], folder, f"{taken}.safetensors was taken")
    assert not any("not over" in note for note in report.notes)


def test_a_run_that_stopped_in_its_finetune_is_its_pretraining_and_says_so(folder):
    _finish(folder, "pretrained", 3)
    _save(folder, "pretrain", 7, seed=4)
    path = _save(folder, "finetune", 5, seed=5)
    _taken(folder, 3, "its finetune is not over", path)


def test_a_run_that_stopped_is_its_newest_checkpoint(folder):
    for step in (6, 10, 9):
        _save(folder, "pretrain", step, seed=step)
    for path in (folder, folder / "checkpoints"):
        _taken(path, 10, path, "pretrain-00000010.safetensors was taken")


def test_of_several_stages_the_finetune_counts_first(folder):
    for seed, (stage, step) in enumerate([("pretrain", 90), ("mine", 95), ("scratch", 7), ("finetune", 5)]):
        _save(folder, stage, step, seed)
    for stage, step, seed in (("finetune", 5, 3), ("scratch", 7, 2), ("pretrain", 90, 0), ("mine", 95, 1)):
        path = folder / "checkpoints" / f"{stage}-{step:08d}.safetensors"
        _taken(folder / "checkpoints", seed, path.name, "was taken")
        path.unlink()


def test_a_damaged_checkpoint_is_passed_over_and_named(folder, refused):
    _save(folder, "pretrain", 6, seed=6)
    bad = _save(folder, "pretrain", 7, seed=7)
    bad.write_bytes(bad.read_bytes()[:-1])
    _taken(folder, 6, "passed over", bad)
    (folder / "checkpoints" / "pretrain-00000006.safetensors").unlink()
    with refused(folder, "none of its 1 checkpoints is whole"):
        convert.read(folder)


def test_a_folders_name_cannot_break_a_line(folder, tmp_path):
    _save(folder, "pretrain", 6, seed=6)
    folder.rename(tmp_path / "a\n\x1b[31m")
    report = convert.read(tmp_path / "a\n\x1b[31m")[2]
    assert all(note.isprintable() for note in report.notes)


def test_damaged_weights_of_a_finished_run_are_not_passed_over(folder, refused):
    _save(folder, "pretrain", 6, seed=6)
    (folder / "finetuned.safetensors").write_bytes(b"half")
    with refused(folder / "finetuned.safetensors"):
        convert.read(folder)


def test_a_folder_of_nothing_is_one_line(folder, refused):
    for path in (folder, folder / "checkpoints", folder.parent):
        with refused(path, "a folder without model.safetensors", "finetuned.safetensors", "or checkpoints"):
            convert.read(path)


def test_a_folder_of_checkpoints_may_be_a_link(folder, tmp_path):
    _save(folder, "pretrain", 6, seed=6)
    (folder / "checkpoints").rename(tmp_path / "disk")
    (folder / "checkpoints").symlink_to("../disk")
    _taken(folder, 6, "pretrain-00000006")
    assert (folder / "checkpoints").is_symlink()


def test_the_command_and_pretrained_say_what_was_taken(folder, tmp_path, capsys):
    _save(folder, "pretrain", 6, seed=6)
    status, out, err = convert_command(folder, tmp_path / "w.safetensors")
    assert (status, err) == (0, "") and "pretrain-00000006.safetensors was taken" in out and "step 6" in out
    assert canonical.load(tmp_path / "w.safetensors")[1] == CONFIG
    pretrained.read(folder, None, None)
    out = capsys.readouterr().out
    assert f"{folder}: recognised" in out and "note: the weights after step 6 of pretrain" in out


@pytest.mark.parametrize("name", ["weights", "finetuned.safetensors", "checkpoints/pretrain-00000001.safetensors"])
def test_a_pipe_is_refused_without_waiting(folder, name, refused):
    os.mkfifo(folder / name)
    with refused(folder / name, "pipe (FIFO)"):
        containers.open_source(folder / name)
    if "/" in name or "." in name:
        with refused(folder, "a folder without"):
            containers.open_source(folder)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full", "/dev/null", "/dev/tty"])
def test_a_device_is_refused(device, refused):
    with refused(device, "a device, not a file"):
        containers.open_source(device)


def test_how_an_older_runs_model_is_used_is_what_its_stages_checkpoint_says(folder):
    """The file of its weights does not say it; a checkpoint of another stage does not count, nor does a damaged one."""
    _finish(folder, "finetuned", 1)
    _save(folder, "pretrain", 3, 2, recipe={"data": "digits", "normalize": "half"})
    assert convert.read(folder)[2].usage.preprocessing is None
    _save(folder, "finetune", 5, 3, recipe={"data": "digits", "normalize": "data"})
    _save(folder, "finetune", 7, 4).write_bytes(b"damaged")
    assert convert.read(folder)[2].usage.preprocessing.mean == (0.2288, 0.2288, 0.2288)
    _taken(folder, 1, "finetuned.safetensors was taken")
