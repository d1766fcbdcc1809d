"""What other programs write gets its name when it is whole, or not at all."""
import os
import signal
import stat

import pytest

from vit.files.staging import staged


def test_a_file_that_was_there_is_replaced(tmp_path):
    (tmp_path / "a.onnx").write_text("old")
    with staged(tmp_path / "a.onnx") as place:
        assert place.suffix == ".onnx" and (tmp_path / "a.onnx").read_text() == "old"
        place.write_text("new")
        place.chmod(0o400)
    assert (tmp_path / "a.onnx").read_text() == "new" and os.listdir(tmp_path) == ["a.onnx"]
    (tmp_path / "other").touch()
    assert (tmp_path / "a.onnx").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_link_stays(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    with staged(tmp_path / "link") as place:
        place.write_text("new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "new"


def test_a_folder_gets_its_name_whole(tmp_path):
    with staged(tmp_path / "a") as place:
        place.mkdir()
        (place / "deep").mkdir()
        (place / "deep/file").write_text("new")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a/deep/file").read_text() == "new" and os.listdir(tmp_path) == ["a"]
    assert stat.S_ISDIR((tmp_path / "a").stat().st_mode)


def test_an_error_leaves_what_was_there(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(KeyError), staged(tmp_path / "a") as place:
        place.write_text("new")
        raise KeyError
    assert (tmp_path / "a").read_text() == "old" and os.listdir(tmp_path) == ["a"]


def test_a_folder_is_not_replaced(tmp_path, refused):
    with refused(f"{tmp_path}: is a folder that is there already"), staged(tmp_path):
        pass


def test_a_folder_that_is_missing_is_said(tmp_path, refused):
    with refused(f"{tmp_path}/none/a: cannot be written (No such file"), staged(tmp_path / "none/a"):
        pass


ENDED = """
import os, signal, sys, time
from vit import start
from vit.files.staging import staged
start.begin()
start.imported()
with staged("a.onnx") as place:
    place.write_text("a part")
    if sys.argv[1] == "nested":
        with staged("b") as other:
            other.mkdir()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    time.sleep(60)
"""


@pytest.mark.parametrize(("name", "status"), [
    ("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", -signal.SIGINT), ("nested", 143)])
def test_a_process_that_is_asked_to_end_leaves_nothing(name, status, run_python, tmp_path):
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd/a.onnx").write_text("old")
    done = run_python("-c", ENDED, name)
    assert done.returncode == status, done.stderr
    assert os.listdir(tmp_path / "cwd") == ["a.onnx"] and (tmp_path / "cwd/a.onnx").read_text() == "old"


def test_signals_are_as_before_when_it_is_over(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with staged(tmp_path / "a") as place:
        place.write_text("new")
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_who_handles_signals_keeps_them(tmp_path):
    def handler(*_):
        raise AssertionError

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with staged(tmp_path / "a") as place:
            place.write_text("new")
            assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)
