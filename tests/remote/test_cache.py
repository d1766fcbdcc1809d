"""Files at an address as local ones: read once, whole or not at all, after a few tries; against a real S3 server."""
import hashlib
import itertools
import os
import sys
import threading
from pathlib import Path

import pytest
import s3fs

from vit.remote import cache, transfer
from vit.remote import s3 as objects
from vit.remote.address import parse

SET = parse("s3://bucket/set")
LARGE = 20_000_000  # is sent in three parts, and read in three


def _put(data, name="file"):
    path = Path(os.environ["VIT_CACHE"]).parent / "source"
    path.write_bytes(data)
    transfer.put(path, SET / name)
    return hashlib.sha256(data).hexdigest()


def _kept():
    """The files in the cache that are not locks: all that is read, or half read."""
    return [path for path in cache.folder().rglob("*") if path.is_file() and not path.name.endswith(".lock")]


@pytest.fixture(params=["s3", "web"])
def place(request, s3, web):
    """An address, and a function that puts a file there; by the web's clock, each is of another second."""
    folder, address = web
    clock = itertools.count(10**9)

    def put(data):
        (folder / "file").write_bytes(data)
        os.utime(folder / "file", (next(clock), ) * 2)

    return (SET / "file", _put) if request.param == "s3" else (parse(address) / "file", put)


def test_a_file_is_read_once(place, monkeypatch):
    address, put = place
    put(b"some bytes")
    path = cache.local(address)
    assert (path.read_bytes(), path.name) == (b"some bytes", "file")
    monkeypatch.setattr(transfer, "get", None)
    assert cache.local(address) == path


def test_a_file_that_has_changed_is_read_again(place):
    address, put = place
    for data in (b"some bytes", b"more bytes"):
        put(data)
        assert cache.local(address).read_bytes() == data


def test_large_files_go_and_come_in_parts(s3):
    data = os.urandom(LARGE)
    digest = _put(data)
    assert transfer.look(SET / "file").size == LARGE
    assert cache.summed(SET / "file", LARGE, digest).read_bytes() == data


def test_what_is_not_there_is_one_line(place, refused):
    address, _ = place
    with refused(f"{address}: there is no such file"):
        cache.local(address)


def test_a_bucket_that_is_not_there_is_one_line(s3, refused):
    with refused("s3://no-bucket/file: there is no such bucket"):
        cache.local(parse("s3://no-bucket/file"))
    with pytest.raises(FileNotFoundError, match="there is no such bucket"):
        transfer.names(parse("s3://no-bucket/set"))


@pytest.mark.parametrize("text", ["s3://bucket/a/..", "https://host/", "https://host/."])
def test_an_address_of_no_file_is_refused(refused, text):
    with refused("names no file"):
        cache.local(parse(text))


def test_without_credentials_it_is_one_line(s3, refused, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", os.environ["VIT_CACHE"])
    s3fs.S3FileSystem.clear_instance_cache()  # credentials are asked for when one is made
    with refused("s3://bucket/set/file: access is denied", "AWS_ACCESS_KEY_ID, AWS_PROFILE, ~/.aws"):
        cache.local(SET / "file")
    s3fs.S3FileSystem.clear_instance_cache()


def test_without_s3fs_it_is_one_line(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with refused("s3:// needs s3fs: pip install s3fs"):
        cache.local(SET / "file")


def test_a_file_of_another_sum_or_size_is_not_kept(s3, refused):
    digest = _put(b"some bytes")
    with refused("s3://bucket/set/file: its sha256 is not what it should be"):
        cache.summed(SET / "file", 10, "0" * 64)
    with refused("s3://bucket/set/file: has 10 bytes, and should have 11"):
        cache.summed(SET / "file", 11, digest)
    assert _kept() == []


def test_a_file_that_changes_while_it_is_read_is_not_kept(s3, refused, monkeypatch):
    _put(b"some bytes")
    get = transfer.get

    def late(address, path):
        get(address, path)
        _put(b"more bytes")

    monkeypatch.setattr(transfer, "get", late)
    with refused("s3://bucket/set/file: has changed while it was read"):
        cache.local(SET / "file")
    assert _kept() == []


@pytest.mark.parametrize("size", [3_000_000, LARGE], ids=["at once", "in parts"])
def test_a_server_that_ends_in_the_middle_of_a_read_leaves_nothing(s3, refused, capsys, size):
    digest = _put(os.urandom(size))
    s3.shut_after("out", size // 2)
    with refused("s3://bucket/set/file: ", "cannot be reached"):
        cache.summed(SET / "file", size, digest)
    assert _kept() == []
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 + 3 - (size < 10_000_000)  # a note that a large file is read, and three of tries
    assert told[-1].endswith("cannot be reached; trying again in 0.2 s")
    s3.open()
    assert cache.summed(SET / "file", size, digest).stat().st_size == size


def test_a_server_that_comes_back_is_waited_for(s3, monkeypatch):
    digest = _put(os.urandom(LARGE))
    monkeypatch.setattr(transfer, "WAITS", [0.3] * 5)
    s3.shut_after("out", LARGE // 2)
    timer = threading.Timer(0.8, s3.open)
    timer.start()
    path = cache.summed(SET / "file", LARGE, digest)
    timer.join()
    assert path.stat().st_size == LARGE
    assert _kept() == [path]


@pytest.mark.parametrize("size", [3_000_000, LARGE], ids=["at once", "in parts"])
@pytest.mark.parametrize("before", [None, b"what was there"], ids=["new", "there"])
def test_a_server_that_ends_in_the_middle_of_a_write_leaves_what_was_there(s3, size, before):
    if before:
        _put(before)
    s3.shut_after("in", size // 2)
    with pytest.raises(OSError, match="cannot be reached") as caught:
        _put(os.urandom(size))
    assert caught.value.filename == "s3://bucket/set/file"
    s3.open()
    there = {name: found.size for name, found in transfer.names(SET).items()}
    assert there == ({"file": len(before)} if before else {})


def test_half_a_file_of_a_process_that_was_killed_is_never_taken(s3, monkeypatch):
    digest = _put(b"some bytes")
    path = cache.summed(SET / "file", 10, digest)
    path.unlink()
    path.with_name(f".{path.name[:40]}.12345678").write_bytes(b"some")
    assert cache.summed(SET / "file", 10, digest).read_bytes() == b"some bytes"


def test_several_that_want_a_file_read_it_once(s3, monkeypatch):
    digest, got, get = _put(b"some bytes"), [], transfer.get

    def slow(address, path):
        got.append(path)
        threading.Event().wait(0.2)
        get(address, path)

    monkeypatch.setattr(transfer, "get", slow)
    threads = [threading.Thread(target=cache.summed, args=(SET / "file", 10, digest)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1


def test_a_cache_that_cannot_be_written_is_one_line(s3, refused, monkeypatch, tmp_path):
    _put(b"some bytes")
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("VIT_CACHE", str(tmp_path / "file"))
    with refused("cannot keep s3://bucket/set/file there", "set VIT_CACHE to a folder"):
        cache.local(SET / "file")


def test_no_secret_is_printed(s3, capsys, refused):
    s3.shut()
    with refused("s3://bucket/set/file: cannot be reached"):
        cache.local(SET / "file")
    assert "very-secret" not in "".join(capsys.readouterr())


def test_a_new_file_is_not_written_over_another(s3, tmp_path):
    (tmp_path / "lock").write_bytes(b"mine")
    transfer.put(tmp_path / "lock", SET / "lock", new=True)
    with pytest.raises(FileExistsError):
        transfer.put(tmp_path / "lock", SET / "lock", new=True)
    assert list(transfer.names(SET)) == ["lock"]


def test_memory_of_a_transfer_is_bounded():
    """Of s3fs's own sizes it would be 500 MB."""
    assert objects._PART * objects._AT_ONCE == 32 << 20
