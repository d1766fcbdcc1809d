"""What the server refuses, in which words; and that it stays up."""
import io
import json
import socket
import struct
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.serve.conftest import FakeServed, png, serving
from vit.serve import server
from vit.serve.limits import Limits

RED = png("red")


def _claims(width, height):
    """A PNG of a few bytes whose header claims a size."""
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(
        b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def client():
    with serving(FakeServed(), max_bytes=20_000, max_pixels=1_000_000) as client:
        yield client


@pytest.mark.parametrize(("body", "query", "kind", "status", "fragment"), [
    (b"\0" * 20_001, "", "image/png", 413, "20,000 bytes"),
    (iter([b"\0" * 15_000] * 2), "", "image/png", 413, "20,000 bytes"),  # chunks: no header tells how many
    (png("red", (1001, 1000)), "", "image/png", 413, "1,001 x 1,000 pixels, and 1,000,000 are taken"),
    (_claims(100_000, 100_000), "", "image/png", 413, "1,000,000 pixels"),
    (RED, "", "text/plain; charset=utf-8", 415, "not text/plain"),
    (RED, "", "multipart/form-data", 415, "send the file's bytes"),
    (b"no image", "", "image/png", 415, "not an image; these are read: JPEG, PNG"),
    (b"<svg/>", "", "image/svg+xml", 415, "not an image"),
    (RED[:45], "", "image/png", 422, "cannot be read"), (_claims(9, 9), "", "image/png", 422, "cannot be read"),
    (b"", "", "image/png", 422, "empty"), (RED, "?top_k=0", "image/png", 422, "top_k"),
    (RED, "?top_k=%C2%B2", "image/png", 422, "top_k"), (RED, "?top_k=9999999999", "image/png", 422, "top_k"),
    (RED, "?backend=tf", "image/png", 422, "one of torch"), (RED, "?attention=yes", "image/png", 422, "0 or 1"),
    (RED, "?topk=3", "image/png", 422, "unknown topk: there are")])
def test_what_is_refused_gets_one_line(client, body, query, kind, status, fragment):
    found = client.predict(body, query, Content_Type=kind)
    assert found[0] == status and list(found[1]) == ["error"]
    assert fragment in found[1]["error"] and "\n" not in found[1]["error"]
    assert client.predict(RED)[0] == 200


def test_what_is_not_there_is_one_line_too(client):
    for method, path, status in (("GET", "/predict", 405), ("POST", "/", 405), ("GET", "/../../etc/passwd", 404)):
        found = client.request(method, path)
        assert found[0] == status and list(json.loads(found[1])) == ["error"]


def test_what_is_no_http_does_not_end_it(client):
    with socket.create_connection(("127.0.0.1", client.port), 10) as raw:
        raw.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert b" 400 " in raw.recv(1000)
    assert client.predict(RED)[0] == 200


def test_one_image_too_many_is_told_to_come_again(at_once):
    model = FakeServed()
    model.open.clear()
    with serving(model, queue=2, max_batch=1) as client:
        def ask(number):
            if number == 2:
                client.wait_until("vit_requests_inside 2.0")
                found = client.request("POST", "/predict", RED)
                model.open.set()
                return found[0], json.loads(found[1]), found[2]["Retry-After"]
            return client.predict(RED)

        first, second, third = at_once(ask, range(3))
        assert first[0] == second[0] == 200
        assert third[0] == 429 and "2 images wait already" in third[1]["error"] and third[2] == "1"
        assert client.predict(RED)[0] == 200


def test_images_that_arrive_together_are_bounded_too(at_once, monkeypatch):
    monkeypatch.setattr("vit.serve.app._HELD", 1)
    with serving(FakeServed(), max_bytes=50_000, timeout=2) as client:
        with socket.create_connection(("127.0.0.1", client.port), 10) as slow:
            slow.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n" + b"\0" * 49_990)
            client.wait_until("vit_requests_inside 1.0")
            time.sleep(0.1)
            status, found = client.predict(RED)
            assert status == 429 and "no room" in found["error"]
        client.wait_until("vit_requests_inside 0.0")
        assert client.predict(RED)[0] == 200


def test_what_takes_too_long_is_given_up():
    model = FakeServed()
    model.open.clear()
    with serving(model, timeout=0.2) as client:
        status, found = client.predict(RED)
        assert status == 503 and "within 0.2 seconds" in found["error"]
        model.open.set()
        assert client.predict(RED)[0] == 200


def test_a_client_that_sends_slowly_is_given_up():
    with serving(FakeServed(), timeout=0.2) as client:
        with socket.create_connection(("127.0.0.1", client.port), 10) as slow:
            slow.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n" + RED[:10])
            found = b""
            while b"error" not in found:
                found += slow.recv(1000)
        assert b" 408 " in found and b"has not arrived within 0.2 seconds" in found
        assert client.predict(RED)[0] == 200


def test_a_connection_without_a_request_is_closed(monkeypatch):
    monkeypatch.setattr(server, "PATIENCE", 0.2)
    with serving(FakeServed()) as client:
        with socket.create_connection(("127.0.0.1", client.port), 10) as idle:
            idle.sendall(b"GET /health HT")
            assert idle.recv(1000) == b""
        with socket.create_connection(("127.0.0.1", client.port), 10) as refused:  # and goes on sending
            refused.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n")
            assert b" 413 " in refused.recv(1000)
            with pytest.raises(OSError):
                for _ in range(100):
                    refused.sendall(b"\0")
                    time.sleep(0.05)


def test_an_image_of_a_client_that_has_left_is_not_computed():
    model = FakeServed()
    model.open.clear()
    with serving(model, max_batch=1) as client:
        request = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(RED), RED)
        with socket.create_connection(("127.0.0.1", client.port), 10) as first:
            first.sendall(request)
            client.wait_until("vit_requests_inside 1.0")
            with socket.create_connection(("127.0.0.1", client.port), 10) as second:
                second.sendall(request)
                client.wait_until("vit_requests_inside 2.0")
            client.wait_until('vit_requests_total{status="499"} 1.0')
            model.open.set()
            assert b" 200 " in first.recv(1000)
        assert client.predict(RED)[0] == 200
        assert model.batches == [1, 1]


def test_a_batch_that_fails_is_not_the_servers_end(caplog):
    model = FakeServed()
    model.fault = RuntimeError("out of\nregisters")
    with serving(model) as client:
        assert client.predict(RED) == (500, {"error": "the server failed: out of registers"})
        assert client.predict(RED)[0] == 200
        assert "RuntimeError" in caplog.text


WRITES = []  # files that are opened to be written, while `watching` is set


def _audit(event, arguments):
    if event == "open" and WRITES and (arguments[2] or 0) & 3:
        WRITES.append(arguments)


def test_no_image_touches_the_disk():
    sys.addaudithook(_audit)  # which stays, and does nothing while the list is empty
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (1000, 1500, 3), np.uint8)).save(noise, "PNG")
    assert noise.tell() > 4_000_000  # more than what is spooled in memory elsewhere
    with serving(FakeServed()) as client:
        WRITES.append("watched")
        try:
            assert client.predict(noise.getvalue(), "?attention=1")[0] == 200
            assert client.predict(noise.getvalue()[:3_000_000])[0] == 422
            assert WRITES == ["watched"]
        finally:
            WRITES.clear()


@pytest.mark.parametrize(("field", "value"), [
    ("max_bytes", 0), ("max_pixels", -1), ("timeout", 0.0), ("timeout", float("nan")), ("queue", 0), ("max_batch", 0),
    ("max_batch", 5000), ("wait_ms", -1)])
def test_impossible_limits_are_refused(field, value, refused):
    with refused(f"{field} must be "):
        Limits(**{field: value})
