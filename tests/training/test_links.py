"""A run's folder in which `checkpoints` or `checkpoints.old` is a link: it stays where it points, or is one line."""
import os

import pytest

from tests.training.test_run_order import OPTIONS
from vit import convert
from vit.checkpoints import inventory


@pytest.fixture
def linked(tmp_path):
    """A function that makes a run's folder in which a name is a link to the folder `disk` beside it."""
    (tmp_path / "disk").mkdir()

    def make(name, target="../disk"):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / name).symlink_to(target)
        return tmp_path / "run"

    return make


@pytest.mark.parametrize("name", ["checkpoints", "checkpoints.old"])
def test_a_new_run_begins_beside_a_link_to_an_empty_folder(linked, stub, name):
    folder = linked(name)
    stub.run(folder)
    assert os.readlink(folder / name) == "../disk" and (folder / "results.json").is_file()


@pytest.mark.parametrize("name", ["checkpoints", "checkpoints.old"])
def test_what_a_link_points_to_is_another_runs_and_stays_there(linked, stub, refused, tmp_path, name):
    folder, file = linked(name), tmp_path / "disk" / "pretrain-00000001.safetensors"
    file.write_bytes(b"of another run")
    with refused(folder, f"holds {name}, of another run", "--overwrite"):
        stub.run(folder)
    stub.run(folder, overwrite=True)
    assert not os.path.lexists(folder / name)
    assert (tmp_path / "run.old" / name / file.name).read_bytes() == file.read_bytes() == b"of another run"
    assert os.readlink(tmp_path / "run.old" / name) == "../disk"


def test_a_link_to_nothing_is_one_line_before_anything_is_written(linked, stub, refused):
    folder = linked("checkpoints", "../gone")
    with refused(folder / "checkpoints", "is a link to ../gone, which is no folder", "--model_dir"):
        stub.run(folder)
    assert [path.name for path in folder.iterdir()] == ["checkpoints"] and stub.given == []
    with refused(folder / "checkpoints", "is a link to ../gone"):
        stub.run(folder, resume="auto")
    with refused(folder, "without a run's"):
        convert.read(folder)
    (folder / "checkpoints").unlink()
    (folder / "checkpoints").touch()
    with refused(folder / "checkpoints", "is no folder"):
        stub.run(folder)


def test_an_old_link_to_nothing_is_left_alone(linked, stub):
    folder = linked("checkpoints.old", "../gone")
    stub.run(folder)
    assert os.readlink(folder / "checkpoints.old") == "../gone"


@pytest.mark.backend("torch")
def test_a_run_is_written_and_resumed_where_its_link_points(linked, tmp_path):
    import vit_torch
    folder, few = linked("checkpoints"), OPTIONS | {"pretrain_epochs": 1}
    vit_torch.fastestimator_run(**few, model_dir=str(folder))
    names = ["pretrain-00000003.safetensors", "finetune-00000003.safetensors"]
    assert [path.name for path in inventory.list_checkpoints(tmp_path / "disk")] == names
    vit_torch.fastestimator_run(resume=str(folder / "checkpoints" / names[0]), log_steps=0)
    assert [path.name for path in inventory.list_checkpoints(tmp_path / "disk")] == names
    assert (tmp_path / "disk" / f"{names[1]}.superseded").is_file() and (folder / "finetuned.safetensors").is_file()
    assert os.readlink(folder / "checkpoints") == "../disk"
