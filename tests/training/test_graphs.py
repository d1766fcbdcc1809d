"""What a kept graph is found by: all that may be in it, and nothing that only says how long or on what is trained."""
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from vit.model.config import VARIANTS
from vit.training import graphs
from vit.training.recipe import Recipe


def _key(config=VARIANTS["tiny"], dtype="float32", freeze_encoder=False, **fields):
    job = SimpleNamespace(recipe=Recipe(variant="tiny", **fields), dtype=dtype)
    return graphs.key(SimpleNamespace(job=job, config=config, freeze_encoder=freeze_encoder))


@pytest.fixture(autouse=True)
def script(monkeypatch, tmp_path):
    """The script that is run, until it is called with another text: then that is run."""
    def run(text):
        path = tmp_path / f"{text}.py"
        path.write_text(text)
        monkeypatch.setattr("__main__.__file__", str(path), raising=False)
        return path
    run("one")
    return run


@pytest.mark.parametrize("change", [
    {"config": VARIANTS["tiny"].replace(final_norm_eps=0.5)}, {"dtype": "float64"}, {"freeze_encoder": True},
    {"momentum": 0.5}, {"batch_size": 7}, {"learning_rate": 0.5}, {"clip_norm": 1.0}])
def test_what_may_be_in_a_graph_changes_the_key(change):
    assert _key(**change) != _key()


def test_the_program_changes_the_key(script):
    before = _key()
    script("another")
    assert _key() != before
    script("one")
    assert _key() == before


@pytest.mark.parametrize("name", ["vit/backend/mindspore.py", "vit/model/dropout.py"])
def test_each_file_of_the_package_changes_the_key(monkeypatch, repo, name):
    before, checksum = _key(), graphs._checksum
    monkeypatch.setattr(graphs, "_checksum", lambda path: "changed" if path == repo / name else checksum(path))
    assert _key() != before


def test_what_the_script_imports_from_beside_it_changes_the_key(monkeypatch, tmp_path):
    keys = {_key()}
    for text in ("one", "another"):
        (tmp_path / f"helper_{text}.py").write_text(text)
        monkeypatch.setitem(sys.modules, "helper", SimpleNamespace(__file__=str(tmp_path / f"helper_{text}.py")))
        keys.add(_key())
    assert len(keys) == 3


def test_a_file_that_is_changed_while_the_program_runs_changes_nothing(script):
    path, before = script("two"), _key()
    path.write_text("edited")
    assert _key() == before


def test_what_is_in_no_graph_does_not(monkeypatch):
    assert _key(seed=5, pretrain_epochs=3, train_steps_per_epoch=2) == _key()


def test_the_folder_is_the_users(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert graphs.folder() == Path("/somewhere/vit/mindspore")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert graphs.folder().parts[-3:] == (".cache", "vit", "mindspore")
