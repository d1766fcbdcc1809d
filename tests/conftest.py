"""What the tests share. It imports no framework: a test that needs one imports it itself."""
import contextlib
import functools
import http.server
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import cv2
import numpy as np
import pytest

from vit import aliases
from vit.errors import UserError
from vit.files.atomic import write_whole
from vit.model.config import ViTConfig
from vit.model.parameters import shapes
from vit.training.report import figures, predictions, results

REPO = Path(__file__).resolve().parent.parent
DOT = cv2.imencode(".png", np.zeros((1, 1), np.uint8))[1].tobytes()


@pytest.fixture(autouse=True)
def signals_as_before():
    """Put the handlers of signals back: a command that ends within a test's process leaves them as a process ends."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def blank_plots(request, monkeypatch):
    """Leave the plots blank of a run that a test makes in this process: they take two seconds of each.

    They are drawn in tests that are marked `plots`, in shared runs (fixtures of a module) and in started processes.
    """
    if request.node.get_closest_marker("plots") is None:
        blank = SimpleNamespace(**vars(figures) | {"grid": Mock(),
                                                   "save": lambda figure, path, dpi: write_whole(path, DOT)})
        for module in (predictions, results):
            monkeypatch.setattr(module, "figures", blank)


@pytest.fixture(scope="session")
def repo():
    """The root of the repository."""
    return REPO


@pytest.fixture(scope="session")
def small():
    """A model small enough to read."""
    return ViTConfig(image_size=16, patch_size=8, width=16, depth=2, heads=2, mlp_dim=24, num_classes=10)


@pytest.fixture(scope="session")
def random_weights():
    """A function (config, seed) to weights that are nowhere at their initial 0 or 1, so that none can hide."""

    def make(config, seed=0):
        rng = np.random.default_rng(seed)
        weights = {}
        for name, shape in shapes(config).items():
            values = rng.normal(size=shape)
            if name.endswith("weight") and "norm" not in name:
                values *= 1.5 / np.sqrt(np.prod(shape[1:]))
            else:
                values = 0.4 * values + ("norm" in name and name.endswith("weight"))
            weights[name] = values
        return weights

    return make


@pytest.fixture(scope="session")
def digits():
    """The pair of sets that needs no network."""
    from vit.data import load
    return load("digits")


@pytest.fixture(scope="session")
def s3_server():
    """An S3 server on this machine."""
    from tests.remote.server import Server
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch, tmp_path):
    """The S3 server, with an empty bucket, and an empty cache; pauses between tries are short."""
    from vit.remote import transfer
    s3_server.empty()
    for name, value in (s3_server.variables | {"VIT_CACHE": str(tmp_path / "cache")}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(transfer, "WAITS", [0.05, 0.1, 0.2])
    yield s3_server
    s3_server.open()


@pytest.fixture
def web(tmp_path, monkeypatch):
    """A folder, and the address at which a server of the web has it; and an empty cache."""
    (tmp_path / "web").mkdir()
    monkeypatch.setenv("VIT_CACHE", str(tmp_path / "cache"))
    handler = functools.partial(QuietHandler, directory=tmp_path / "web")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05, ), daemon=True).start()
        yield tmp_path / "web", f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, without a line for each."""

    def log_message(self, *_) -> None:
        """Say nothing."""


@pytest.fixture
def refused():
    """A context whose body must end in a UserError of one line that holds the given fragments."""

    @contextlib.contextmanager
    def check(*fragments):
        with pytest.raises(UserError) as caught:
            yield
        message = str(caught.value)
        assert "\n" not in message
        assert [fragment for fragment in fragments if str(fragment) not in message] == [], message

    return check


@pytest.fixture
def forget_notes(monkeypatch):
    """Let notes about old names be printed as if none had been yet."""
    monkeypatch.setattr(aliases, "_told", set())


@pytest.fixture
def run_python(tmp_path):
    """A function that runs this Python in an empty folder with the repository on its path."""

    def run(*arguments, **environment):
        variables = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
        path = os.pathsep.join(filter(None, [environment.pop("before", ""), str(REPO), str(REPO / "packages/fe_compat"),
                                             str(REPO / "packages/fe_mindspore")]))
        folder = tmp_path / "cwd"
        folder.mkdir(exist_ok=True)
        return subprocess.run([sys.executable, *map(str, arguments)], cwd=folder, capture_output=True, text=True,
                              timeout=120, env={**variables, "PYTHONPATH": path, "NO_PROXY": "*", **environment})

    return run
