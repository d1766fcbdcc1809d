"""Checkpoints of older formats are read as they were written, in today's words."""
import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.files.test_old_formats import WRITTEN
from tests.fixtures import COMMIT_7D1C055
from vit import checkpoints

FOLDER = COMMIT_7D1C055 / "run" / "checkpoints"
STOPPED = FOLDER / "finetune-00000009.safetensors"


def test_a_checkpoint_of_7d1c055_is_read():
    checkpoint = checkpoints.load(STOPPED)
    assert (checkpoint.stage, checkpoint.phase, checkpoint.epoch, checkpoint.step, checkpoint.batch) == (
        "finetune", "training", 2, 9, 3)
    assert (checkpoint.optimizer_steps, checkpoint.backend, checkpoint.config) == (9, "torch", WRITTEN)
    assert checkpoint.best == [checkpoint.metric, "finetune-00000006.safetensors"] == [0.140625, checkpoint.best[1]]
    stored = load_file(STOPPED)
    assert checkpoint.options == {"compare_scratch": False, "data_dir": None, "pretrained": "small.safetensors",
                                  "skip_bad_images": True}
    groups = {"weights": checkpoint.weights, "moment1": checkpoint.moment1, "moment2": checkpoint.moment2,
              "average": checkpoint.ema, "numbers": checkpoint.numbers}
    for group, tensors in groups.items():
        assert sorted(f"{group}/{name}" for name in tensors) == sorted(
            name for name in stored if name.startswith(f"{group}/"))
        assert all(np.array_equal(value, stored[f"{group}/{name}"]) for name, value in tensors.items())


def test_the_newest_checkpoint_of_7d1c055_is_found():
    assert {stage: found.step for stage, found in checkpoints.newest(FOLDER, pytest.fail).items()} == {"finetune": 9}
    assert checkpoints.describe(FOLDER.parent).count("valid") == 2


@pytest.mark.parametrize("at", [-1, -20_000])
def test_a_changed_bit_in_a_checkpoint_of_7d1c055_is_noticed(tmp_path, refused, at):
    content = bytearray(STOPPED.read_bytes())
    content[at] ^= 1
    path = tmp_path / STOPPED.name
    path.write_bytes(content)
    with refused(path, "damaged"):
        checkpoints.load(path)


def test_a_changed_state_in_a_checkpoint_of_7d1c055_is_noticed(tmp_path, refused):
    path = tmp_path / STOPPED.name
    path.write_bytes(STOPPED.read_bytes().replace(b'\\"batch\\": 3', b'\\"batch\\": 4', 1))
    with refused(path, "damaged"):
        checkpoints.load(path)
