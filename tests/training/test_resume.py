"""Where a run goes on from: the recipe must be the run's, batches go on where they stopped, and saving may fail."""
import dataclasses
import errno
import os
import shutil
import signal

import numpy as np
import pytest

from tests.checkpoints.test_serialization import make
from tests.training.test_pipeline import _batches, _bytes, _line
from vit import checkpoints
from vit.backend import load_script
from vit.data import load
from vit.files import canonical
from vit.model import parameters
from vit.training import resume, run
from vit.training.job import Job
from vit.training.options import RunOptions
from vit.training.recipe import Recipe

RECIPE = Recipe(data="digits", variant="tiny", batch_size=16)
torch = pytest.mark.backend("torch")


@pytest.fixture
def run_folder(tmp_path):
    """The folder of a stopped run."""
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    for stage, step in (("pretrain", 4), ("pretrain", 8), ("finetune", 2)):
        checkpoints.save(folder / f"{stage}-{step:08d}.safetensors", make(
            stage=stage, step=step, recipe=RECIPE.to_dict(), options={"pretrained": None}))
    return tmp_path / "run"


def test_auto_takes_the_newest_of_each_stage_with_its_recipe(run_folder, capsys):
    found = resume.find(RunOptions(resume="auto", model_dir=str(run_folder)), {})
    assert {stage: checkpoint.step for stage, checkpoint in found.checkpoints.items()} == {"pretrain": 8, "finetune": 2}
    assert found.recipe == RECIPE.to_dict() and found.options.model_dir == str(run_folder)
    assert "resuming finetune after step 2" in capsys.readouterr().out


def test_a_warning_of_a_damaged_checkpoint_is_one_line_whatever_its_name(run_folder, capsys):
    (run_folder / "checkpoints" / "a\nerror: \x1b[31m-00000009.safetensors").write_bytes(b"nothing")
    resume.find(RunOptions(resume="auto", model_dir=str(run_folder)), {})
    err = capsys.readouterr().err
    assert err.startswith("warning: ") and err.count("\n") == 1 and err[:-1].isprintable()


def test_a_named_checkpoint_sets_the_later_ones_aside(run_folder):
    path = run_folder / "checkpoints" / "pretrain-00000004.safetensors"
    found = resume.find(RunOptions(resume=str(path)), {})
    assert {stage: checkpoint.step for stage, checkpoint in found.checkpoints.items()} == {"pretrain": 4}
    assert found.options.model_dir == str(run_folder)
    before = {later.name: later.read_bytes() for later in path.parent.iterdir() if later != path}
    found.set_aside()
    assert sorted(later.name for later in path.parent.glob("*.superseded")) == [f"{name}.superseded"
                                                                                for name in sorted(before)]
    for name, content in before.items():  # and those that were set aside earlier stay
        (path.parent / name).write_bytes(content[::-1])
    found.set_aside()
    for name, content in before.items():
        assert (path.parent / f"{name}.superseded").read_bytes() == content
        assert (path.parent / f"{name}.superseded2").read_bytes() == content[::-1]


def test_a_refusal_sets_nothing_aside(run_folder, refused):
    path = run_folder / "checkpoints" / "pretrain-00000004.safetensors"
    with refused("batch_size"):
        resume.find(RunOptions(resume=str(path)), {"batch_size": 32})
    assert list(path.parent.glob("*.superseded*")) == []


def test_what_was_asked_for_again_is_no_difference(run_folder):
    resume.find(RunOptions(resume="auto", model_dir=str(run_folder)), {"batch_size": 16, "variant": "tiny"})


def test_another_recipe_is_refused_with_the_difference_and_the_way_out(run_folder, refused):
    with refused("batch_size is 16 there and 32 here", "--resume_override batch_size=32"):
        resume.find(RunOptions(resume="auto", model_dir=str(run_folder)), {"batch_size": 32})


def test_what_is_named_may_differ(run_folder):
    options = RunOptions(resume="auto", model_dir=str(run_folder),
                         resume_override=("batch_size=32", "learning_rate=1e-3"))
    found = resume.find(options, {"batch_size": 32})
    assert (found.recipe["batch_size"], found.recipe["learning_rate"]) == (32, 1e-3)


@pytest.mark.parametrize("files", [[], ["recipe.yaml", "classes.json", "start.safetensors"]])
def test_auto_starts_from_the_beginning_where_there_is_no_checkpoint(tmp_path, files, stub, capsys):
    for name in files:  # of a run that ended before its first checkpoint
        (tmp_path / name).write_bytes(b"of that run")
    stub.run(tmp_path, resume="auto")
    assert [stage.name for stage, _ in stub.given] == ["pretrain", "finetune"]
    err = capsys.readouterr().err
    assert err == f"note: {tmp_path} holds no checkpoint to go on from, so the run starts from the beginning\n"


@pytest.mark.parametrize("name", ["results.json", "pretrained.safetensors"])
def test_auto_does_not_write_over_a_result_without_checkpoints(tmp_path, name, stub, refused):
    (tmp_path / name).write_bytes(b"a result")
    with refused(tmp_path, "nothing to resume"):
        stub.run(tmp_path, resume="auto")
    assert stub.given == [] and (tmp_path / name).read_bytes() == b"a result"


@pytest.mark.parametrize(("where", "folder", "overrides", "fragments"), [
    ("auto", None, [], ("--model_dir", )), ("auto", "none", ["seed=1"], ("nothing to resume", )),
    ("none.safetensors", None, [], ("none.safetensors", "no such file")),
    ("auto", "run", ["batch_size"], ("--resume_override", "batch_size")),
    ("auto", "run", ["colour=red"], ("colour", )),
])
def test_what_cannot_be_is_one_line(run_folder, where, folder, overrides, fragments, refused):
    with refused(*fragments):
        resume.find(RunOptions(resume=where, model_dir=folder and str(run_folder.parent / folder),
                               resume_override=tuple(overrides)), {})


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize(("steps", "skipped"), [(None, 2), (13, 1), (13, 7)])
def test_skipped_batches_are_the_first_ones(workers, steps, skipped):
    """13 batches of 4 pass the 22 images more than twice."""
    line = _line(workers)
    line.skip(3, skipped)
    assert _bytes(_batches(epoch=3, steps=steps, line=line)) == _bytes(_batches(epoch=3, steps=steps))[skipped:]
    assert _bytes(_batches(epoch=4, steps=steps, line=line)) == _bytes(_batches(epoch=4, steps=steps))
    assert _bytes(_batches("eval", epoch=3, line=line)) == _bytes(_batches("eval", epoch=3))


# Saving that fails.

def _train(folder, on_save_error, break_it, phase="training"):
    """Six steps in torch with a checkpoint at each other one; `break_it` acts before the second of them, or before the
    first of another phase."""
    from vit.training.traces import CheckpointSaver
    whole = CheckpointSaver._save

    def save(saver, now):
        if now == phase and (now != "training" or saver.step == 4):
            break_it()
        whole(saver, now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointSaver, "_save", save)
        return _finetune(folder, {}, RunOptions(log_steps=0, checkpoint_every=2, on_save_error=on_save_error),
                         finetune_epochs=1, train_steps_per_epoch=6)


def _finetune(folder, found, options, **recipe):
    """Train in torch from scratch, or on from a checkpoint that was found; return the final weights."""
    recipe = dataclasses.replace(RECIPE, eval_steps_per_epoch=1, **recipe)
    folder.mkdir(exist_ok=True)
    job = Job(load_script("torch"), recipe, load("digits"), folder, options, saves_checkpoints=True, checkpoints=found)
    return run.finetune(job, None)


def _lose(folder):
    shutil.rmtree(folder / "checkpoints")


@torch
def test_a_lost_folder_is_said_and_training_goes_on(tmp_path, capsys):
    lost = _train(tmp_path / "a", "continue", lambda: _lose(tmp_path / "a"))
    err = capsys.readouterr().err
    assert "warning" in err and str(tmp_path / "a") in err and "step 4" in err and "training goes on" in err
    kept = _train(tmp_path / "b", "continue", lambda: None)
    assert all(np.array_equal(lost[name], kept[name]) for name in kept)


@torch
def test_a_lost_folder_stops_a_training_that_asked_for_it(tmp_path, refused):
    with refused(str(tmp_path), "step 4", "training stopped", "on_save_error"):
        _train(tmp_path, "stop", lambda: _lose(tmp_path))


@torch
def test_a_full_disk_leaves_the_checkpoint_before_it(tmp_path, monkeypatch, capsys):
    with pytest.raises(OSError, match="No space left on device"):  # the final weights find no room either
        _train(tmp_path, "continue", lambda: monkeypatch.setattr(os, "fsync", _full))
    monkeypatch.undo()
    assert "No space left on device" in capsys.readouterr().err
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["scratch-00000002.safetensors"]
    assert checkpoints.load(tmp_path / "checkpoints" / names[0]).step == 2


def _full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _no_room_for_the_best(monkeypatch):
    save = canonical.save
    monkeypatch.setattr(canonical, "save", lambda path, *given: (
        _full() if path.parent.name == "best" else save(path, *given)))


def test_a_best_model_that_cannot_be_written_is_said_and_training_goes_on(tmp_path, monkeypatch, capsys):
    _no_room_for_the_best(monkeypatch)
    _train(tmp_path, "continue", lambda: None)
    path = tmp_path / "best" / "scratch_best_accuracy.safetensors"
    assert f"{path}: the best model could not be written (No space left" in capsys.readouterr().err
    assert checkpoints.load(tmp_path / "checkpoints" / "scratch-00000006.safetensors").phase == "finished"


@torch
def test_a_best_model_that_cannot_be_written_stops_a_training_that_asked_for_it(tmp_path, monkeypatch, refused):
    _no_room_for_the_best(monkeypatch)
    with refused(str(tmp_path / "best"), "training stopped", "on_save_error"):
        _train(tmp_path, "stop", lambda: None)


@torch
def test_what_a_killed_process_had_begun_to_write_is_removed(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    part = tmp_path / "checkpoints" / ".scratch-00000002.safetensors.k3j2"
    part.write_bytes(b"half")
    _train(tmp_path, "continue", lambda: None)
    assert not part.exists()


@torch
def test_signals_act_as_before_once_a_training_has_raised(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def raise_it():
        raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError, match="a mistake"):
        _train(tmp_path, "continue", raise_it)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@torch
def test_a_signal_in_the_last_moment_ends_the_run_as_well(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        _train(tmp_path, "continue", lambda: os.kill(os.getpid(), signal.SIGTERM), phase="finished")
    assert ended.value.code == 143
    assert "stopped after step 6 of scratch" in capsys.readouterr().err
    assert checkpoints.load(tmp_path / "checkpoints" / "scratch-00000006.safetensors").phase == "finished"


# Accumulated gradients.

def _accumulate(folder, found):
    options = RunOptions(log_steps=0, checkpoint_every=3, keep=9)
    return parameters.sha256(_finetune(folder, found, options, finetune_epochs=2, train_steps_per_epoch=5,
                                       accumulate_steps=2))


@torch
def test_checkpoints_wait_for_the_end_of_an_update(tmp_path):
    whole = _accumulate(tmp_path / "a", {})
    saved = [checkpoints.load(path) for path in checkpoints.list_checkpoints(tmp_path / "a" / "checkpoints")]
    assert [(checkpoint.step, checkpoint.optimizer_steps) for checkpoint in saved] == [(4, 2), (6, 3), (10, 5)]
    # The evaluation after step 5 falls into an update, the end of which stands for it.
    assert saved[1].best[1] == "scratch-00000006.safetensors"
    assert all((tmp_path / "a" / "checkpoints" / checkpoint.best[1]).is_file() for checkpoint in saved[1:])
    for checkpoint in saved[:-1]:
        assert _accumulate(tmp_path / f"b{checkpoint.step}", {"scratch": checkpoint}) == whole
