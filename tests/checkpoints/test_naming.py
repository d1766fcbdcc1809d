"""What checkpoints are called, and which run one belongs to, from wherever it is named."""
import os

import pytest

from tests.checkpoints.test_serialization import make
from vit.checkpoints import checkpoint_name, run_folder, save
from vit.checkpoints.naming import parse_name
from vit.training import resume
from vit.training.options import RunOptions

NAME = "pretrain-00000007.safetensors"


@pytest.fixture
def run(tmp_path):
    """The folder of a run with a checkpoint."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    save(tmp_path / "run" / "checkpoints" / NAME, make())
    return tmp_path / "run"


@pytest.mark.parametrize(("stage", "step"), [("pretrain", 7), ("my-own stage", 0), ("x", 123_456_789)])
def test_a_name_says_its_stage_and_its_step(stage, step):
    assert parse_name(checkpoint_name(stage, step)) == (stage, step)
    assert parse_name(f"some/folder/{checkpoint_name(stage, step)}") == (stage, step)


@pytest.mark.parametrize("name", ["weights.safetensors", "finetune-12.pt", f".{NAME}", f"{NAME}.superseded", ""])
def test_other_names_say_nothing(name):
    assert parse_name(name) is None


@pytest.mark.parametrize(("inside", "named"), [
    (".", f"checkpoints/{NAME}"), ("checkpoints", NAME), ("checkpoints", f"./{NAME}"),
    ("checkpoints", f"../checkpoints/{NAME}"), ("checkpoints/sub", f"../{NAME}"), ("..", f"run/checkpoints/{NAME}"),
    ("..", f"run/checkpoints/sub/../{NAME}"),
])
def test_a_run_is_found_from_every_folder(run, monkeypatch, inside, named):
    (run / "checkpoints" / "sub").mkdir()
    monkeypatch.chdir(run / inside)
    assert os.path.samefile(run_folder(named), run)
    assert os.path.samefile(run_folder(os.path.abspath(named)), run)


def test_a_run_goes_on_in_its_own_folder_when_its_checkpoint_is_named_from_inside(run, monkeypatch):
    monkeypatch.chdir(run / "checkpoints")
    found = resume.find(RunOptions(resume=NAME), {})
    assert os.path.samefile(found.options.model_dir, run)


def test_a_run_is_where_the_link_to_its_checkpoints_is(run, tmp_path):
    (run / "checkpoints").rename(tmp_path / "disk")
    (run / "checkpoints").symlink_to("../disk")
    assert run_folder(run / "checkpoints" / NAME) == run


def test_a_checkpoint_that_lies_elsewhere_needs_the_name_of_its_run(run, tmp_path, monkeypatch, refused):
    """Else the run would write beside the folder that the link points to."""
    (run / "checkpoints").rename(tmp_path / "disk")
    monkeypatch.chdir(tmp_path / "disk")
    for path in (NAME, tmp_path / "disk" / NAME):
        with refused(path, "no folder called checkpoints", "--model_dir"):
            resume.find(RunOptions(resume=path), {})
    assert resume.find(RunOptions(resume=NAME, model_dir=run), {}).options.model_dir == str(run)
