"""What the server answers: each client its own image, in few batches; its page, its state and its counters."""
import asyncio
import re
import socket

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.serve.conftest import FakeServed, png, serving
from vit.serve import app, server
from vit.serve.batching import Batcher
from vit.serve.limits import Limits
from vit.serve.metrics import Metrics
from vit.use.classifier import batch_sizes

NAMES = ("red", "lime", "blue")  # what PIL calls the colours that the classes are
CLASSES = ("red", "green", "blue")


def test_five_hundred_clients_get_their_own_answers(at_once):
    model = FakeServed()
    images, broken = [png(name) for name in NAMES], png("red")[:45]
    with serving(model) as client:
        def ask(number):
            return client.predict(broken if number % 10 == 9 else images[number % 3], "?top_k=1")

        for number, (status, found) in enumerate(at_once(ask, range(500))):
            if number % 10 == 9:
                assert status == 422
            else:
                assert status == 200 and found["predictions"][0]["class"] == CLASSES[number % 3]
        lines = client.get("/metrics").splitlines()
    assert 'vit_requests_total{status="200"} 450.0' in lines and 'vit_requests_total{status="422"} 50.0' in lines
    assert sum(model.batches) == 450 and len(model.batches) < 300 and max(model.batches) <= 16


def test_probabilities_are_those_of_the_model():
    model = FakeServed()
    with serving(model) as client:
        status, found = client.predict(png((40, 20, 0)), "?top_k=5")
    exps = np.exp([4.0, 2.0, 0.0])
    assert status == 200 and [one["class"] for one in found["predictions"]] == list(CLASSES)
    np.testing.assert_allclose([one["probability"] for one in found["predictions"]], exps / exps.sum(), rtol=1e-6)
    assert set(found) == {"backend", "predictions"}


def test_attention_comes_with_what_the_model_sees():
    with serving(FakeServed(), FakeServed("tf")) as client:
        status, found = client.predict(png("blue", (20, 10)), "?attention=1&backend=tf&top_k=2")
    assert status == 200 and found["attention"] == [[1, 0], [0, 1]] and found["backend"] == "tf"
    assert found["image"].startswith("data:image/png;base64,") and len(found["predictions"]) == 2


def test_a_model_that_shows_nothing_says_so():
    model = FakeServed()
    model.explains = False
    with serving(model) as client:
        status, found = client.predict(png("blue"), "?attention=1")
        assert status == 422 and "exported" in found["error"]
        assert '"attention":false' in client.get("/health")


def test_an_answer_does_not_wait_for_the_clients_acknowledgement():
    """asyncio sets TCP_NODELAY on what says that it is TCP alone; else each answer comes 40 ms late."""
    with server.listen("127.0.0.1", 0) as taken:
        assert taken.proto == socket.IPPROTO_TCP


def test_health_says_what_is_served():
    with serving(FakeServed(), FakeServed("ms"), max_bytes=77) as client:
        text = client.get("/health")
    assert '"status":"ok"' in text and '"title":"MindSpore"' in text and '"max_bytes":77' in text


def test_metrics_are_prometheus_own_and_do_not_grow_with_what_is_asked(at_once):
    with serving(FakeServed()) as client:
        client.predict(png("red"))
        before = client.get("/metrics")
        at_once(lambda number: client.request("GET", f"/{number}"), range(50))
        at_once(lambda number: client.predict(png("red"), f"?x{number}=1"), range(50))
        after = client.get("/metrics")
    families = {one.name: one for one in text_string_to_metric_families(after)}
    assert {"vit_requests", "vit_request_seconds", "vit_batch_images", "vit_batch_seconds", "vit_requests_inside",
            "process_resident_memory_bytes"} <= set(families)
    assert len(after.splitlines()) <= len(before.splitlines()) + 2  # a status that was not there


def test_the_page_needs_nothing_from_elsewhere():
    with serving(FakeServed()) as client:
        for path, (_, kind) in app.PAGE.items():
            status, content, headers = client.request("GET", path)
            assert status == 200 and headers["content-type"].startswith(kind)
            assert "default-src 'none'" in headers["content-security-policy"]
            assert not re.search(rb"https?:|//[a-z]|@import|url\(", content.replace(b"// ", b""))
    [page, script] = [text.decode() for text in (client_file("page.html"), client_file("page.js"))]
    assert set(re.findall(r'by\("(\w+)"\)', script)) == set(re.findall(r'\bid="(\w+)"', page))


def client_file(name):
    """A file of the page."""
    import importlib.resources
    return importlib.resources.files("vit.serve").joinpath("page", name).read_bytes()


def test_batches_are_filled_in_turn_and_a_map_comes_alone():
    models = {"torch": FakeServed(), "tf": FakeServed("tf")}

    async def story():
        batcher = Batcher(models, Limits(max_batch=2), Metrics())
        pixels = np.zeros((8, 8, 3), np.uint8)
        asked = [("torch", False), ("tf", False), ("torch", True), ("torch", True), ("torch", False), ("torch", False),
                 ("tf", False)]
        waiting = [asyncio.ensure_future(batcher.compute(name, pixels, explain)) for name, explain in asked]
        await asyncio.sleep(0)
        task = asyncio.create_task(batcher.run())
        found = await asyncio.wait_for(asyncio.gather(*waiting), 20)
        task.cancel()
        batcher.close()
        return [map_ is not None for _, map_ in found]

    assert asyncio.run(story()) == [False, False, True, True, False, False, False]
    assert (models["torch"].batches, models["tf"].batches) == ([2, 0, 0, 1], [2])


@pytest.mark.parametrize(("coming", "batches"), [(0, [1, 1]), (1, [2])])
def test_a_batch_waits_for_images_that_are_being_read_alone(coming, batches):
    model = FakeServed()

    async def story():
        batcher, pixels = Batcher({"torch": model}, Limits(wait_ms=10_000, max_batch=2), Metrics()), np.zeros((8, 8, 3))
        batcher.coming = coming
        task = asyncio.create_task(batcher.run())
        first_ = asyncio.ensure_future(batcher.compute("torch", pixels, False))
        await asyncio.sleep(0.05)
        await asyncio.gather(first_, batcher.compute("torch", pixels, False))
        task.cancel()
        batcher.close()

    asyncio.run(story())
    assert model.batches == batches


@pytest.mark.parametrize(("backend", "most", "sizes"), [
    ("torch", 3, (1, 2, 3)), ("tf", 16, (1, 2, 4, 8, 16)), ("ms", 12, (1, 2, 4, 8, 12)), ("onnx", 1, (1, ))])
def test_graphs_are_compiled_for_few_sizes(backend, most, sizes):
    assert batch_sizes(FakeServed(backend).model, most) == sizes


@pytest.mark.parametrize(("images", "rows"), [(1, 1), (3, 4), (4, 4), (5, 8)])
def test_a_batch_is_filled_up_to_such_a_size(images, rows, monkeypatch):
    model, seen = FakeServed("tf", (1, 2, 4, 8)), []
    run = model.model._run
    monkeypatch.setattr(model.model, "_run", lambda pixels: seen.append(len(pixels)) or run(pixels))
    assert model.probabilities(np.zeros((images, 8, 8, 3), np.uint8)).shape == (images, 3)
    assert seen == [rows]
