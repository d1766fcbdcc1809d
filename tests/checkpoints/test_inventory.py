"""A folder of checkpoints: which there are, which is taken, which are deleted, and the table of them."""
import os

import pytest

from tests.checkpoints.test_serialization import make
from vit.checkpoints import describe, list_checkpoints, newest, prune, save, set_aside


def _fill(folder):
    for stage, step in (("finetune", 3), ("pretrain", 20), ("pretrain", 9), ("finetune", 12)):
        save(folder / f"{stage}-{step:08d}.safetensors", make(stage=stage, step=step))


def test_checkpoints_come_by_stage_and_step(tmp_path):
    _fill(tmp_path)
    (tmp_path / ".pretrain-00000030.safetensors.x1").touch()
    (tmp_path / "notes.txt").touch()
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        "pretrain-00000009.safetensors", "pretrain-00000020.safetensors", "finetune-00000003.safetensors",
        "finetune-00000012.safetensors"]


def test_the_newest_whole_one_of_each_stage_is_taken_and_a_damaged_one_named(tmp_path):
    _fill(tmp_path)
    (tmp_path / "finetune-00000012.safetensors").write_bytes(b"half")
    said = []
    found = newest(tmp_path, said.append)
    assert [(stage, checkpoint.step) for stage, checkpoint in found.items()] == [("pretrain", 20), ("finetune", 3)]
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
    assert [path.name for path in list_checkpoints(tmp_path) if "pretrain" in path.name] == [
        "pretrain-00000009.safetensors", "pretrain-00000030.safetensors"]
    assert sum("finetune" in path.name for path in list_checkpoints(tmp_path)) == 2


def test_later_ones_are_set_aside_not_deleted(tmp_path):
    _fill(tmp_path)
    set_aside(tmp_path, tmp_path / "pretrain-00000009.safetensors")
    assert [path.name for path in list_checkpoints(tmp_path)] == ["pretrain-00000009.safetensors"]
    assert len(list(tmp_path.glob("*.superseded"))) == 3


def test_later_ones_are_set_aside_beside_whatever_has_their_names(tmp_path):
    _fill(tmp_path)
    (tmp_path / "finetune-00000012.safetensors.superseded").symlink_to("nowhere")
    set_aside(tmp_path, tmp_path / "finetune-00000003.safetensors")
    assert (tmp_path / "finetune-00000012.safetensors.superseded").is_symlink()
    assert (tmp_path / "finetune-00000012.safetensors.superseded2").is_file()


def test_what_is_named_in_other_digits_or_is_no_file_is_no_checkpoint(tmp_path):
    _fill(tmp_path)
    for name in ("pretrain-²", "pretrain-٣", "pretrain-", "-5", "5", ".pretrain-5", "pretrain-1e3"):
        (tmp_path / f"{name}.safetensors").touch()
    (tmp_path / "pretrain-00000021.safetensors").mkdir()
    os.mkfifo(tmp_path / "pretrain-00000022.safetensors")
    assert len(list_checkpoints(tmp_path)) == 4


def test_a_renamed_checkpoint_is_passed_over(tmp_path):
    _fill(tmp_path)
    (tmp_path / "finetune-00000012.safetensors").rename(tmp_path / "pretrain-00000099.safetensors")
    said = []
    found = newest(tmp_path, said.append)
    assert {stage: checkpoint.step for stage, checkpoint in found.items()} == {"pretrain": 20, "finetune": 3}
    assert len(said) == 1 and "must be called finetune-00000012.safetensors" in said[0]


def test_a_folder_of_checkpoints_may_be_a_link_to_another_disk(tmp_path):
    """It stays one: everything is read and written where it points."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to("../disk")
    folder = tmp_path / "run" / "checkpoints"
    _fill(folder)
    save(folder / "pretrain-00000030.safetensors", make(step=30))
    prune(folder, "pretrain", 1, None)
    set_aside(folder, tmp_path / "disk" / "finetune-00000003.safetensors")
    assert folder.is_symlink() and len(list((tmp_path / "disk").iterdir())) == 3
    assert [path.name for path in list_checkpoints(folder)] == [
        "pretrain-00000030.safetensors", "finetune-00000003.safetensors"]
    assert [found.step for found in newest(folder, pytest.fail).values()] == [30, 3]
    last = newest(folder, pytest.fail, tmp_path / "disk" / "pretrain-00000030.safetensors")
    assert list(last) == ["pretrain"]


def test_the_listing_says_which_are_whole(tmp_path, refused):
    (tmp_path / "checkpoints").mkdir()
    _fill(tmp_path / "checkpoints")
    (tmp_path / "checkpoints" / "finetune-00000012.safetensors").write_bytes(b"half")
    lines = describe(tmp_path).splitlines()
    assert len(lines) == 6
    assert "valid, training" in lines[1] and "25.0%" in lines[1] and "torch" in lines[1]
    assert "NOT VALID" in lines[4] and "finetune-00000012" in lines[4] and "finetune-00000012" in lines[5]
    short = describe(tmp_path, 60).splitlines()
    assert max(map(len, short[:5])) <= 60 and short[0].split() == ["file", "epoch", "top-1", "state"]
    assert [line.split()[0] for line in short[:5]] == [line.split()[0] for line in lines[:5]]
    with refused("no such folder"):
        describe(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with refused("holds no checkpoints"):
        describe(tmp_path / "empty")
