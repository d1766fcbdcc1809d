"""A pipe or a device in the place of any input file: one line, where opening it would wait for ever."""
import os
import signal

import pytest

from vit import checkpoints, convert, data
from vit.data import cifar, download
from vit.training import pretrained, recipe_file, resume
from vit.training.options import RunOptions


@pytest.fixture(autouse=True)
def alarm():
    """Raise in whatever waits."""
    def stop(*_):
        raise TimeoutError("waited for a pipe")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


READERS = {
    "a recipe": recipe_file.build,
    "--pretrained": lambda path: pretrained.read(path, None, None),
    "vit convert": convert.read,
    "--resume": lambda path: resume.find(RunOptions(resume=str(path)), {}),
    "a checkpoint": checkpoints.load,
}


@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_is_none(tmp_path, refused, reader):
    os.mkfifo(tmp_path / "pretrain-00000001.safetensors")
    (tmp_path / "link").symlink_to("pretrain-00000001.safetensors")
    for path, kind in ((tmp_path / "pretrain-00000001.safetensors", "a pipe (FIFO)"), (tmp_path / "link", "a pipe"),
                       ("/dev/zero", "a device"), ("/dev/null", "a device")):
        with refused(f"{path}: is {kind}", "not a file"):
            READERS[reader](path)


@pytest.mark.parametrize("name", ["cifar", "cifair"])
@pytest.mark.parametrize("kind", ["archive", "extracted", "cached"])
def test_an_archive_that_is_none(tmp_path, monkeypatch, refused, name, kind):
    archive = cifar.PAIRS[name][0]
    path = tmp_path / (archive.file.name if kind != "extracted" else f"{archive.folder}/{archive.meta}")
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    monkeypatch.setattr(download, "cache_dir", lambda: tmp_path)
    with refused(path, "is a pipe (FIFO)"):
        data.load(name, None if kind == "cached" else str(tmp_path))


def test_folders_in_which_pipes_lie(tmp_path, refused):
    (tmp_path / "checkpoints").mkdir()
    os.mkfifo(tmp_path / "checkpoints" / "pretrain-00000001.safetensors")
    with refused(tmp_path, "holds no checkpoints"):
        checkpoints.newest(tmp_path / "checkpoints", pytest.fail)
    os.mkfifo(tmp_path / "model.safetensors")
    with refused(tmp_path, "a folder without model.safetensors"):
        convert.read(tmp_path)
