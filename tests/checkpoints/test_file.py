"""A checkpoint's file: everything comes back, and a damaged or foreign one is named and refused."""
import dataclasses
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vit.checkpoints import Checkpoint, checkpoints, describe, load, newest, save, set_aside
from vit.checkpoints.folder import prune
from vit.errors import UserError
from vit.files import canonical
from vit.model import parameters
from vit.model.config import ViTConfig
from vit.training.recipe import Recipe

CONFIG = ViTConfig(image_size=8, patch_size=4, width=8, depth=1, heads=2, mlp_dim=8, num_classes=3)


def _some(seed, dtype="float32"):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in parameters.shapes(CONFIG).items()}


def make(stage="pretrain", step=7, phase="training", **changes):
    fields = {"epoch": 2, "batch": 3, "optimizer_steps": 7, "config": CONFIG, "weights": _some(1), "moment1": _some(2),
              "moment2": _some(3), "average": _some(4), "metric": 0.25, "best": [0.5, "pretrain-00000004.safetensors"],
              "recipe": Recipe().to_dict(), "options": {"data_dir": None}, "history": {"epochs": [{"epoch": 1}]},
              "numbers": {"step_losses": np.array([2.5, 1.25])}, "traces": {"0.EarlyStopping": {"wait": 1}},
              "loss_scale": {"scale": 65536.0, "good_steps": 3, "skipped": 1}, "backend": "torch"}
    return Checkpoint(stage=stage, step=step, phase=phase, **(fields | changes))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A checkpoint's bytes."""
    path = tmp_path_factory.mktemp("whole") / "pretrain-00000007.safetensors"
    save(path, make())
    return path.read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("average", [True, False])
def test_everything_comes_back(tmp_path, dtype, average):
    before = make(weights=_some(1, dtype), average=_some(4, dtype) if average else None)
    save(tmp_path / "a.safetensors", before)
    after = load(tmp_path / "a.safetensors")
    for field in dataclasses.fields(Checkpoint):
        ours, theirs = getattr(before, field.name), getattr(after, field.name)
        if field.name in ("weights", "moment1", "moment2", "average", "numbers") and ours is not None:
            assert {name: value.tobytes() for name, value in ours.items()} == {
                name: value.tobytes() for name, value in theirs.items()}, field.name
        else:
            assert ours == theirs, field.name


def test_nothing_else_is_in_the_folder_afterwards(tmp_path):
    save(tmp_path / "a.safetensors", make())
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_failed_write_costs_nothing(tmp_path, monkeypatch):
    import os
    path = tmp_path / "a.safetensors"
    save(path, make(step=1))

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(path, make(step=2))
    assert load(path).step == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_or_cut_file_is_refused_by_name(whole, tmp_path, data):
    kind = data.draw(st.sampled_from(["cut", "flip", "zero", "swap", "append"]))
    at = data.draw(st.integers(0, len(whole) - 1))
    content = bytearray(whole)
    if kind == "cut":
        content = content[:at]
    elif kind == "flip":
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "zero":
        content[at:at + 64] = bytes(len(content[at:at + 64]))
    elif kind == "swap":
        other = data.draw(st.integers(0, len(whole) - 1))
        content[at], content[other] = content[other], content[at]
    else:
        content += b"\0" * data.draw(st.integers(1, 100))
    path = tmp_path / "pretrain-00000007.safetensors"
    path.write_bytes(content)
    if bytes(content) == whole:
        load(path)
        return
    try:
        load(path)
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        # A change that means the same: white space in the header, say. Nothing in it may differ then.
        assert _same(load(path), make())


def _same(a, b):
    return json.dumps(a.history) == json.dumps(b.history) and all(
        parameters.sha256(a.groups[name]) == parameters.sha256(b.groups[name]) for name in b.groups)


def _with_state(tmp_path, **changes):
    """A file whose checksum is right and whose state is not."""
    import hashlib

    import safetensors
    import safetensors.numpy
    save(tmp_path / "a", make())
    with safetensors.safe_open(tmp_path / "a", framework="np") as file:
        metadata, tensors = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    state = json.loads(metadata["state"]) | changes
    metadata["state"] = json.dumps({name: value for name, value in state.items() if value != "absent"})
    metadata["sha256"] = hashlib.sha256((metadata["state"] + parameters.sha256(tensors)).encode()).hexdigest()
    path = tmp_path / "pretrain-00000007.safetensors"
    path.write_bytes(safetensors.numpy.save(tensors, metadata))
    return path


@pytest.mark.parametrize("changes", [{"phase": "asleep"}, {"step": -1}, {"step": "7"}, {"step": True}, {"epoch": 1.5},
                                     {"recipe": []}, {"history": None}, {"stage": 3}, {"step": "absent"},
                                     {"surprise": 1}, {"config": {}}, {"config": None}, {"best": 5},
                                     {"loss_scale": 2.0}, {"loss_scale": {"scale": 2.0}},
                                     {"loss_scale": {"scale": 0.0, "good_steps": 3, "skipped": 1}},
                                     {"loss_scale": {"scale": 2.0, "good_steps": -3, "skipped": 1}},
                                     {"loss_scale": {"scale": 2.0, "good_steps": 3, "skipped": "1"}}])
def test_a_state_that_makes_no_sense_is_refused(tmp_path, changes, refused):
    path = _with_state(tmp_path, **changes)
    with refused(str(path)):
        load(path)


def test_files_of_others_are_refused(tmp_path, refused):
    canonical.save(tmp_path / "w.safetensors", _some(1), CONFIG)
    with refused("w.safetensors", "not a checkpoint"):
        load(tmp_path / "w.safetensors")
    (tmp_path / "x.safetensors").write_text("hello")
    with refused("x.safetensors"):
        load(tmp_path / "x.safetensors")
    with refused("none.safetensors", "no such checkpoint"):
        load(tmp_path / "none.safetensors")


def test_tensors_of_another_model_are_refused(tmp_path, refused):
    path = tmp_path / "pretrain-00000007.safetensors"
    save(path, make(config=CONFIG.replace(width=16)))
    with refused(str(path), "weights"):
        load(path)


# A folder of them.

def _fill(folder):
    for stage, step in (("finetune", 3), ("pretrain", 20), ("pretrain", 9), ("finetune", 12)):
        save(folder / f"{stage}-{step:08d}.safetensors", make(stage=stage, step=step))


def test_checkpoints_come_by_stage_and_step(tmp_path):
    _fill(tmp_path)
    (tmp_path / ".pretrain-00000030.safetensors.x1").touch()
    (tmp_path / "notes.txt").touch()
    assert [path.name for path in checkpoints(tmp_path)] == [
        "pretrain-00000009.safetensors", "pretrain-00000020.safetensors", "finetune-00000003.safetensors",
        "finetune-00000012.safetensors"]


def test_the_newest_whole_one_of_each_stage_is_taken_and_a_damaged_one_named(tmp_path):
    _fill(tmp_path)
    (tmp_path / "finetune-00000012.safetensors").write_bytes(b"half")
    said = []
    points = newest(tmp_path, said.append)
    assert [(stage, point.step) for stage, point in points.items()] == [("pretrain", 20), ("finetune", 3)]
    assert len(said) == 1 and "finetune-00000012" in said[0] and "the one before it" in said[0]


def test_nothing_to_resume_is_one_line(tmp_path, refused):
    with refused(str(tmp_path), "nothing to resume"):
        newest(tmp_path, print)
    (tmp_path / "pretrain-00000001.safetensors").write_bytes(b"half")
    with refused("none of its 1 checkpoints is whole"):
        newest(tmp_path, lambda line: None)


def test_pruning_keeps_the_newest_and_the_best_of_its_stage_only(tmp_path):
    _fill(tmp_path)
    save(tmp_path / "pretrain-00000030.safetensors", make(step=30))
    prune(tmp_path, "pretrain", 1, "pretrain-00000009.safetensors")
    assert [path.name for path in checkpoints(tmp_path) if "pretrain" in path.name] == [
        "pretrain-00000009.safetensors", "pretrain-00000030.safetensors"]
    assert sum("finetune" in path.name for path in checkpoints(tmp_path)) == 2


def test_later_ones_are_set_aside_not_deleted(tmp_path):
    _fill(tmp_path)
    set_aside(tmp_path, tmp_path / "pretrain-00000009.safetensors")
    assert [path.name for path in checkpoints(tmp_path)] == ["pretrain-00000009.safetensors"]
    assert len(list(tmp_path.glob("*.superseded"))) == 3


def test_the_listing_says_which_are_whole(tmp_path, refused):
    (tmp_path / "checkpoints").mkdir()
    _fill(tmp_path / "checkpoints")
    (tmp_path / "checkpoints" / "finetune-00000012.safetensors").write_bytes(b"half")
    lines = describe(tmp_path).splitlines()
    assert len(lines) == 5
    assert "valid, training" in lines[1] and "25.0%" in lines[1] and "torch" in lines[1]
    assert "NOT VALID" in lines[4] and "finetune-00000012" in lines[4]
    with refused("no such folder"):
        describe(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with refused("holds no checkpoints"):
        describe(tmp_path / "empty")
