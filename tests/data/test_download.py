"""Downloading, against a server on 127.0.0.1: once, checked, whole or not at all, and every failure in one line."""
import hashlib
import http.server
import os
import socket
import threading

import pytest

from vit.data import download
from vit.data.download import RemoteFile

BODY = bytes(range(256)) * 20
CHECKSUM = f"sha256:{hashlib.sha256(BODY).hexdigest()}"


class _Server(http.server.ThreadingHTTPServer):
    """Serves BODY at /good/..., and every kind of trouble beside it; keeps a list of what was asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked, self.released = [], threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}"

    def file(self, *kinds):
        """A remote file with a source of each kind."""
        return RemoteFile("set.bin", CHECKSUM, tuple(f"{self.address}/{kind}/set.bin" for kind in kinds))


class _Handler(http.server.BaseHTTPRequestHandler):

    def do_GET(self):
        self.server.asked.append(self.path)
        kind = self.path.split("/")[1]
        if kind == "hang":
            self.server.released.wait(30)
            return
        if kind in ("404", "500"):
            self.send_error(int(kind))
            return
        body = b"x" + BODY[1:] if kind == "wrong" else BODY
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:1000] if kind == "cut" else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def nobody():
    """An address at which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"  # bound, but not listening


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """The per-user cache, here in an empty folder of the test's."""
    monkeypatch.setenv("VIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VIT_DATA_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path / "cache"


def _kept(cache):
    return sorted(path.name for path in cache.rglob("*")) if cache.exists() else []


WAY_OUT = ("set.bin", "by hand", "--data_dir", "--data digits", "no network")


def test_good_file_is_downloaded_once(server, cache):
    for _ in range(2):
        path = download.fetch(server.file("good"))
        assert path == cache / "set.bin"
        assert path.read_bytes() == BODY
    assert server.asked == ["/good/set.bin"]
    assert _kept(cache) == ["set.bin"]


def test_download_is_quiet_where_the_output_is_no_terminal(server, capfd):
    download.fetch(server.file("good"))
    assert capfd.readouterr() == ("", "")


def test_bar_ends_where_the_file_ends(server, monkeypatch):
    bars = []

    class Bar:
        def __init__(self, total, **_):
            self.total, self.n, self.closed = total, 0, False
            bars.append(self)

        def update(self, size):
            self.n += size

        def reset(self, total=None):
            self.n, self.total = 0, total or self.total

        def close(self):
            self.closed = True

    monkeypatch.setattr("tqdm.tqdm", Bar)
    download.fetch(server.file("good"))
    assert [(bar.n, bar.total, bar.closed) for bar in bars] == [(len(BODY), len(BODY), True)]


@pytest.mark.parametrize(("kind", "reason"), [("wrong", "wrong checksum"), ("cut", "cut off"), ("500", "500"),
                                              ("404", "404")])
def test_each_trouble_is_one_line_and_leaves_nothing(server, cache, refused, kind, reason):
    file = server.file(kind)
    with refused(file.urls[0], reason, *WAY_OUT):
        download.fetch(file)
    assert server.asked == [f"/{kind}/set.bin"]
    assert _kept(cache) == []


def test_nobody_listening(nobody, cache, refused):
    with refused(nobody, "no connection", *WAY_OUT):
        download.fetch(RemoteFile("set.bin", CHECKSUM, (f"{nobody}/set.bin", )))
    assert _kept(cache) == []


def test_silent_server_is_given_up(server, cache, refused):
    with refused("timed out", *WAY_OUT):
        download.fetch(server.file("hang"), timeout=0.2)
    assert _kept(cache) == []


def test_address_that_is_none(cache, refused, monkeypatch):
    monkeypatch.setenv("VIT_DATA_MIRROR", "not-an-address")
    with refused("not-an-address", *WAY_OUT):
        download.fetch(RemoteFile("set.bin", CHECKSUM, ()))
    assert _kept(cache) == []


@pytest.mark.parametrize("first", ["wrong", "cut", "500"])
def test_second_source_stands_in_for_the_first(server, cache, first):
    assert download.fetch(server.file(first, "good")).read_bytes() == BODY
    assert server.asked == [f"/{first}/set.bin", "/good/set.bin"]
    assert _kept(cache) == ["set.bin"]


def test_every_source_that_failed_is_named(server, refused):
    with refused("/500/set.bin: status 500", "/cut/set.bin: transfer cut off", "/wrong/set.bin: wrong checksum"):
        download.fetch(server.file("500", "cut", "wrong"))


def test_damaged_file_in_the_cache_is_fetched_again(server, cache):
    cache.mkdir()
    (cache / "set.bin").write_bytes(BODY[:-1])
    assert download.fetch(server.file("good")).read_bytes() == BODY


def test_a_pipe_in_the_cache_is_not_waited_for(server, cache, refused):
    cache.mkdir()
    os.mkfifo(cache / "set.bin")
    with refused(cache / "set.bin", "is a pipe (FIFO), not a file"):
        download.fetch(server.file("good"))
    assert server.asked == []


def test_mirror_replaces_the_sources(server, monkeypatch):
    monkeypatch.setenv("VIT_DATA_MIRROR", f"{server.address}/good/")
    assert download.fetch(server.file("500")).read_bytes() == BODY
    assert server.asked == ["/good/set.bin"]


def test_cache_that_cannot_be_written(server, tmp_path, monkeypatch, refused):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("VIT_CACHE", str(tmp_path / "file" / "cache"))
    with refused(tmp_path / "file", "Not a directory", "VIT_CACHE", "--data digits"):
        download.fetch(server.file("good"))


def test_cache_that_is_not_permitted_says_so(server, monkeypatch, refused):
    import pooch

    def deny(*_, **__):
        raise PermissionError("denied: pooch words this itself")  # and so sets no `strerror`

    monkeypatch.setattr(pooch, "retrieve", deny)
    with refused("denied", "VIT_CACHE"):
        download.fetch(server.file("good"))


def test_cifar_comes_through_the_mirror(server, monkeypatch, cache, refused):
    from vit.data import load
    monkeypatch.setenv("VIT_DATA_MIRROR", f"{server.address}/good")
    with refused("cifar-100-python.tar.gz", "wrong checksum"):
        load("cifar")
    assert server.asked == ["/good/cifar-100-python.tar.gz"]
    assert _kept(cache) == []


@pytest.mark.parametrize("name", ["cifar", "cifair"])
def test_known_checksums_and_sources_are_well_formed(name):
    from vit.data.cifar import PAIRS
    for archive in PAIRS[name]:
        kind, digest = archive.file.checksum.split(":")
        assert len(bytes.fromhex(digest)) == {"md5": 16, "sha256": 32}[kind]
        assert archive.file.urls and all(url.startswith("https://") for url in archive.file.urls)


@pytest.mark.parametrize("kind", ["500", "wrong"])
def test_command_line_ends_in_one_line(server, cache, run_python, repo, tmp_path, kind):
    done = run_python(repo / "vit_torch.py", "--data", "cifar", "--model_dir", tmp_path / "run",
                      VIT_DATA_MIRROR=f"{server.address}/{kind}", VIT_CACHE=str(cache))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: could not download cifar-100-python.tar.gz")
    assert "--data digits" in done.stderr
    assert not (tmp_path / "run").exists()
    assert _kept(cache) == []
    assert list((tmp_path / "cwd").iterdir()) == []
