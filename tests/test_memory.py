"""What cannot be in memory is refused in one line, before anything asks for it."""
import resource

import pytest

from vit import memory
from vit.training import run


def test_what_there_is_passes():
    memory.check(1, "some things", "take less")


def test_what_is_not_there_is_refused_with_both_figures(refused):
    with refused("some things take 1,000,000,000.0 GB of memory at least, and there are ", "; take less"):
        memory.check(10**18, "some things", "take less")


def test_the_process_s_own_limit_counts(refused):
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (memory._table("/proc/self/status")["VmData"] + (1 << 30), before[1]))
    try:
        memory.check(1 << 28, "some things", "take less")
        with refused("some things take 2.1 GB of memory at least, and there are 1."):
            memory.check(1 << 31, "some things", "take less")
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def test_a_system_that_says_nothing_refuses_nothing(monkeypatch):
    monkeypatch.setattr(memory, "_free", lambda: iter(()))
    memory.check(10**18, "some things", "take less")


@pytest.mark.backend("torch")
@pytest.mark.parametrize(("fields", "fragment"), [
    ({"image_size": 16384}, "images of 16384 x 16384"),
    ({"image_size": 8192, "batch_size": 10**9}, "images of 8192 x 8192")])
def test_a_run_is_refused_before_it_writes(tmp_path, monkeypatch, refused, fields, fragment):
    import vit_torch
    monkeypatch.setattr(memory, "_free", lambda: iter([10**9]))
    with refused(fragment, "GB of memory at least, and there are 1.0; a smaller --batch_size"):
        run.run(vit_torch, data="digits", variant="tiny", model_dir=str(tmp_path / "run"), **fields)
    assert not (tmp_path / "run").exists()
