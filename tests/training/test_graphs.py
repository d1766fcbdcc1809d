"""What a kept graph is found by: all that may be in it, and nothing that only says how long or on what is trained."""
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
    (tmp_path / "script.py").write_text("one")
    monkeypatch.setattr("__main__.__file__", str(tmp_path / "script.py"), raising=False)
    return tmp_path / "script.py"


@pytest.mark.parametrize("change", [
    {"config": VARIANTS["tiny"].replace(final_norm_eps=0.5)}, {"dtype": "float64"}, {"freeze_encoder": True},
    {"momentum": 0.5}, {"batch_size": 7}, {"learning_rate": 0.5}, {"clip_norm": 1.0}])
def test_what_may_be_in_a_graph_changes_the_key(change):
    assert _key(**change) != _key()


def test_the_program_changes_the_key(script):
    before = _key()
    script.write_text("another")
    assert _key() != before


def test_what_is_in_no_graph_does_not(monkeypatch):
    assert _key(seed=5, pretrain_epochs=3, train_steps_per_epoch=2) == _key()


def test_the_folder_is_the_users(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert graphs.folder() == Path("/somewhere/vit/mindspore")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert graphs.folder().parts[-3:] == (".cache", "vit", "mindspore")
