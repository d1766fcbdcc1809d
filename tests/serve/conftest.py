"""A server in a thread, around a model without a framework."""
import concurrent.futures
import contextlib
import http.client
import io
import json
import threading
import time

import numpy as np
import pytest
from PIL import Image

from vit.files.usage import Preprocessing, Usage
from vit.model.config import ViTConfig
from vit.serve import server
from vit.serve.app import Service
from vit.serve.limits import Limits
from vit.serve.served import Served
from vit.use.classifier import Model

CONFIG = ViTConfig(image_size=8, patch_size=4, width=16, depth=1, heads=2, mlp_dim=24, num_classes=3)
USAGE = Usage(("red", "green", "blue"), Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))


class Colours(Model):
    """Its logits are an image's mean colour."""

    def __init__(self, backend="torch"):
        super().__init__(CONFIG, USAGE, "colours", 1)
        self.backend = backend

    def _run(self, pixels):
        return pixels.mean(axis=(1, 2)).astype(np.float32) / 10


class FakeServed(Served):
    """A model that says what it computed, and waits where it is told to.

    Attributes:
        batches: How many images each batch had; 0 for a map.
        open: Set, unless batches are to wait.
        fault: What the next batch raises.
    """
    computing = threading.Lock()

    def __init__(self, backend="torch", sizes=tuple(range(1, 17))):
        self.model, self.explains = Colours(backend), True
        self.model.sizes = sizes
        self.batches, self.open, self.fault = [], threading.Event(), None
        self.open.set()

    def probabilities(self, pixels):
        assert self.computing.acquire(blocking=False), "two batches at once"
        try:
            self.batches.append(len(pixels))
            self.open.wait(10)
            if self.fault is not None:
                fault, self.fault = self.fault, None
                raise fault
            return super().probabilities(pixels)
        finally:
            self.computing.release()

    def attention(self, pixels):
        row = self.probabilities(pixels[None])[0]
        self.batches[-1] = 0
        return np.eye(2, dtype=np.float32), row


class Client:
    """What sends requests to a port of this machine."""

    def __init__(self, port):
        self.port = port

    def request(self, method, path, body=None, headers=None):
        """A request on a connection of its own; returns the status, the body and the headers of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers

    def get(self, path):
        """A GET request: the text of the answer."""
        return self.request("GET", path)[1].decode()

    def predict(self, body, query="", **headers):
        """A request for a prediction: the status and what the JSON says."""
        given = {"Content-Type": "image/png", **{name.replace("_", "-"): value for name, value in headers.items()}}
        status, content, _ = self.request("POST", f"/predict{query}", body, given)
        return status, json.loads(content)

    def wait_until(self, text):
        """Wait until the metrics have a line."""
        end = time.monotonic() + 10
        while text not in self.get("/metrics").splitlines():
            assert time.monotonic() < end, self.get("/metrics")
            time.sleep(0.01)


def png(colour, size=(8, 8)):
    """The bytes of an image of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


@contextlib.contextmanager
def running(app, taken):
    """Run an application in a thread, at a socket; gives the client."""
    web = server.server(app)
    thread = threading.Thread(target=web.run, args=([taken], ))
    thread.start()
    try:
        yield Client(taken.getsockname()[1])
    finally:
        web.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@contextlib.contextmanager
def serving(*models, **limits):
    """Serve models; gives the client."""
    service = Service({one.model.backend: one for one in models}, Limits(**limits), "colours")
    with server.listen("127.0.0.1", 0) as taken, running(service.app(), taken) as client:
        try:
            yield client
        finally:
            for one in models:
                if isinstance(one, FakeServed):
                    one.open.set()


@pytest.fixture
def at_once():
    """A function that calls another with each of some values, all at the same time."""
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        yield lambda function, values: list(pool.map(function, values))
