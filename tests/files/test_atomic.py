"""Files are written whole or not at all, and nothing but a regular file or a new name is ever replaced."""
import errno
import os
import socket
import stat
import subprocess
import sys

import pytest

from vit.files.atomic import whole_file, write_whole


def _mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


@pytest.fixture
def umask():
    """A function that sets the umask until the test is over."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_mode_of_any_new_file(tmp_path, umask, mask):
    umask(mask)
    write_whole(tmp_path / "ours", b"new")
    (tmp_path / "theirs").write_bytes(b"new")
    assert _mode(tmp_path / "ours") == _mode(tmp_path / "theirs") == 0o666 & ~mask


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_a_file_that_was_there_keeps_its_mode(tmp_path, umask, mode):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "file").chmod(mode)
    write_whole(tmp_path / "file", b"new")
    assert (_mode(tmp_path / "file"), (tmp_path / "file").read_bytes()) == (mode, b"new")


def test_what_a_link_refers_to_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "file").write_bytes(b"old")
    (tmp_path / "first").symlink_to("second")
    (tmp_path / "second").symlink_to(tmp_path / "disk" / "file")
    write_whole(tmp_path / "first", b"new")
    assert os.readlink(tmp_path / "first") == "second" and (tmp_path / "second").is_symlink()
    assert (tmp_path / "disk" / "file").read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["file"]


def test_a_link_to_nothing_gets_its_file(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk/file")
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "disk" / "file").read_bytes() == b"new"


def test_a_name_without_a_folder_goes_into_the_present_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_whole("file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_name_as_long_as_names_may_be(tmp_path):
    write_whole(tmp_path / ("ä" * 127), b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"new"]


def test_the_null_device_takes_everything_and_stays(tmp_path):
    with whole_file("/dev/null") as file:
        file.write(b"new")
    (tmp_path / "link").symlink_to("/dev/null")
    write_whole(tmp_path / "link", b"new")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode) and (tmp_path / "link").is_symlink()


def _others(folder):
    """Paths that are no regular files, by what they are called."""
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        before = os.getcwd()
        os.chdir(folder)  # a socket's path must be short
        listener.bind("socket")
        os.chdir(before)
    (folder / "link").symlink_to("fifo")
    return {folder / "fifo": "a pipe (FIFO)", folder / "link": "a pipe (FIFO)", folder / "folder": "a folder",
            folder / "socket": "a socket", "/dev/full": "a device"}


def test_other_than_files_are_refused_unharmed(tmp_path, refused):
    others = _others(tmp_path)
    before = {path: (os.lstat(path).st_ino, os.lstat(path).st_mode) for path in others}
    for path, kind in others.items():
        with refused(path, f"is {kind}", "name a regular file"), whole_file(path):
            raise AssertionError("opened")
    assert {path: (os.lstat(path).st_ino, os.lstat(path).st_mode) for path in others} == before
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_the_file_that_the_output_goes_to_is_not_replaced(tmp_path, name):
    """It could hold more than what this process writes."""
    with open(tmp_path / "log", "wb") as log:
        log.write(b"before\n")
        log.flush()
        program = f"from vit.files.atomic import write_whole; write_whole({name!r}, b'new')"
        done = subprocess.run([sys.executable, "-c", program], stdout=log, stderr=subprocess.PIPE, text=True,
                              env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert f"{name}: is an open file of a process" in done.stderr
    assert (tmp_path / "log").read_bytes() == b"before\n"


def test_links_in_a_circle_are_an_error_of_that_name(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError) as caught:
        write_whole(tmp_path / "a", b"new")
    assert (caught.value.errno, caught.value.filename) == (errno.ELOOP, os.fspath(tmp_path / "a"))


def _fail(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_an_error_names_the_file_and_leaves_what_was_there(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, call, _fail)
    with pytest.raises(OSError) as caught:
        write_whole(path, b"new")
    monkeypatch.undo()
    assert str(caught.value) == f"[Errno {errno.ENOSPC}] No space left on device: {str(path)!r}"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"] and path.read_bytes() == b"old"


def test_a_missing_folder_is_an_error_of_that_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_whole(tmp_path / "none" / "file", b"new")
    assert caught.value.filename == os.fspath(tmp_path / "none" / "file")


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(OSError) as caught, whole_file(tmp_path / "outer"), whole_file(tmp_path / "inner"):
        _fail()
    assert caught.value.filename == os.fspath(tmp_path / "inner")
    with pytest.raises(FileNotFoundError) as caught, whole_file(tmp_path / "outer"):
        (tmp_path / "none").read_bytes()
    assert caught.value.filename == os.fspath(tmp_path / "none")


def test_a_folder_that_vanishes_is_said_and_not_what_came_of_it(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError) as caught, whole_file(tmp_path / "folder" / "file"):
        for path in (tmp_path / "folder").iterdir():
            path.unlink()
        (tmp_path / "folder").rmdir()
    assert caught.value.filename == os.fspath(tmp_path / "folder" / "file")
