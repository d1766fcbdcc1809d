"""A checkpoint's file: everything comes back, and a damaged or foreign one is named and refused."""
import dataclasses
import json
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vit.checkpoints import Checkpoint, load, save, serialization
from vit.checkpoints.serialization import FORMAT
from vit.errors import UserError
from vit.files import canonical
from vit.files.lazy_tensor import LazyTensor
from vit.files.safetensors import open_tensors, write_tensors
from vit.model import parameters
from vit.model.config import ViTConfig
from vit.training.recipe import Recipe

PART = {"counts": [1, 2, 0], "images": "0a", "labels": "1b"}
DATA = {"pretrain": None, "finetune": {"name": "some", "classes": ["a", "b", "c"], "train": PART, "test": PART}}
STRETCH = {"stage": "pretrain", "step": 0, "recipe": {"seed": 7}, "backend": "torch", "versions": {"numpy": "1.26.4"},
           "git_commit": "0a1b+", "host": "here", "num_workers": 2, "world_size": 3}
CONFIG = ViTConfig(image_size=8, patch_size=4, width=8, depth=1, heads=2, mlp_dim=8, num_classes=3)


def _some(seed, dtype="float32"):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in parameters.shapes(CONFIG).items()}


EPOCH = {"epoch": 1, "learning_rate": 0.01, "train_loss": 2.0, "train_seconds": 1.5, "step_seconds": None,
         "images_per_second": None, "eval_loss": 1.9, "accuracy": 0.25, "top5": 0.5, "eval_seconds": 0.5}


def make(stage="pretrain", step=7, phase="training", **changes):
    """A checkpoint of a training in its second epoch."""
    batch = min(3, step - 1)
    fields = {"epoch": 2, "batch": batch, "optimizer_steps": step, "config": CONFIG, "weights": _some(1),
              "moment1": _some(2), "moment2": _some(3), "ema": _some(4), "metric": 0.25,
              "best": [0.5, "pretrain-00000004.safetensors"], "recipe": Recipe().to_dict(),
              "options": {"data_dir": None},
              "history": {"epochs": [EPOCH], "step_sizes": [16] * step, "first_steps": [0, step - batch]},
              "numbers": {"step_losses": np.linspace(2.5, 1.25, step), "gradient_norms": np.full(step, 0.5)},
              "traces": {"0.EarlyStopping": {"wait": 1}},
              "loss_scale": {"scale": 65536.0, "good_steps": 3, "skipped": 1}, "backend": "torch", "data": DATA,
              "stretches": [STRETCH]}
    return Checkpoint(stage=stage, step=step, phase=phase, **(fields | changes))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A checkpoint's bytes."""
    path = tmp_path_factory.mktemp("whole") / "pretrain-00000007.safetensors"
    save(path, make())
    return path.read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ema", [True, False])
def test_everything_comes_back(tmp_path, dtype, ema):
    before = make(weights=_some(1, dtype), ema=_some(4, dtype) if ema else None)
    save(tmp_path / "a.safetensors", before)
    after = load(tmp_path / "a.safetensors")
    for field in dataclasses.fields(Checkpoint):
        ours, theirs = getattr(before, field.name), getattr(after, field.name)
        if field.name in ("weights", "moment1", "moment2", "ema", "numbers") and ours is not None:
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


def _with_state(tmp_path, numbers=None, **changes):
    """A file whose checksum is right, with a changed state, and with other lists of numbers."""
    save(tmp_path / "a", make())
    tensors, metadata = open_tensors(tmp_path / "a")
    state = json.loads(metadata["state"]) | changes
    state = {name: value for name, value in state.items() if value != "absent"}
    loaded = {name: tensor.load() for name, tensor in tensors.items()
              if numbers is None or not name.startswith("numbers/")}
    path = tmp_path / "pretrain-00000007.safetensors"
    with open(path, "wb") as file:
        write_tensors(file, loaded | {f"numbers/{name}": value for name, value in (numbers or {}).items()},
                      {"format": FORMAT, "state": json.dumps(state)})
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
    with refused(str(path), "makes no sense"):
        load(path)


@pytest.mark.parametrize(("changes", "named"), [({"surprise": 1}, "unknown: ['surprise']"),
                                                ({"batch": "absent"}, "missing: ['batch']")])
def test_unknown_and_missing_fields_are_named(tmp_path, changes, named, refused):
    path = _with_state(tmp_path, **changes)
    with refused(str(path), named):
        load(path)


@pytest.mark.parametrize("name", ["metric", "best", "recipe", "options", "history", "traces", "loss_scale", "backend",
                                  "data"])
def test_a_field_that_came_later_takes_its_default(tmp_path, name):
    defaults = {"metric": None, "best": [None, None], "loss_scale": None, "backend": "", "data": None}
    numbers = {} if name == "history" else None  # they came together
    loaded = load(_with_state(tmp_path, numbers, **{name: "absent"}))
    assert getattr(loaded, name) == defaults.get(name, {})


def test_a_later_format_is_refused_by_its_number(tmp_path, refused):
    with open(tmp_path / "a", "wb") as file:
        write_tensors(file, {}, {"format": "vit-checkpoint-3"})
    with refused("vit-checkpoint-3", "reads vit-checkpoint-1 and vit-checkpoint-2"):
        load(tmp_path / "a")


def test_files_of_others_are_refused(tmp_path, refused):
    canonical.save(tmp_path / "w.safetensors", _some(1), CONFIG)
    with refused("w.safetensors", "not a checkpoint"):
        load(tmp_path / "w.safetensors")
    (tmp_path / "x.safetensors").write_text("hello")
    with refused("x.safetensors"):
        load(tmp_path / "x.safetensors")
    with refused("none.safetensors", "no such file"):
        load(tmp_path / "none.safetensors")


def test_tensors_of_another_model_are_refused(tmp_path, refused):
    path = tmp_path / "pretrain-00000007.safetensors"
    save(path, make(config=CONFIG.replace(width=16)))
    with refused(str(path), "weights"):
        load(path)


def test_a_long_history_is_no_damage(tmp_path):
    """It is in the header, which grows with the run: past the bound that holds for other files."""
    save(tmp_path / "a", make(step=2_000_000))
    assert len(load(tmp_path / "a").history["step_sizes"]) == 2_000_000


def test_a_checkpoint_under_the_name_of_another_is_refused(tmp_path, refused):
    save(tmp_path / "pretrain-00000008.safetensors", make(step=7))
    with refused("pretrain-00000008", "step 7 of pretrain", "must be called pretrain-00000007.safetensors"):
        load(tmp_path / "pretrain-00000008.safetensors")
    save(tmp_path / "finetune-00000007.safetensors", make(step=7))
    with refused("finetune-00000007", "step 7 of pretrain"):
        load(tmp_path / "finetune-00000007.safetensors")
    save(tmp_path / "copy.safetensors", make(step=7))
    assert load(tmp_path / "copy.safetensors").step == 7


def test_a_spec_of_a_billion_blocks_is_refused_at_once(tmp_path, refused):
    path = _with_state(tmp_path, config=CONFIG.to_dict() | {"depth": 1 << 30})
    with refused(path, f"for {1 << 30} blocks"):
        load(path)


def test_no_tensor_is_loaded_of_a_checkpoint_that_is_none(tmp_path, refused, monkeypatch):
    path = _with_state(tmp_path, config=CONFIG.replace(width=16).to_dict())
    opened = serialization.open_tensors

    def open_tensors(path, most):
        tensors, metadata = opened(path, most)
        return {name: LazyTensor(tensor.dtype, tensor.shape, None) for name, tensor in tensors.items()}, metadata

    monkeypatch.setattr(serialization, "open_tensors", open_tensors)
    with refused(path, "weights do not fit the model"):
        load(path)


def test_a_pipe_is_not_waited_for(tmp_path, refused):
    os.mkfifo(tmp_path / "pretrain-00000007.safetensors")
    with refused("pretrain-00000007.safetensors", "is a pipe (FIFO), not a file"):
        load(tmp_path / "pretrain-00000007.safetensors")
