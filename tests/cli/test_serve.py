"""`vit serve`: its line, its port, how it ends, and that its memory is bounded."""
import concurrent.futures
import importlib.util
import io
import os
import re
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.serve.conftest import Client
from vit.cli.commands import main
from vit.files import canonical
from vit.files.usage import Preprocessing, Usage
from vit.model.config import VARIANTS

CONFIG = VARIANTS["tiny"].replace(num_classes=10, depth=1, patch_size=16)


@pytest.fixture(scope="module")
def file(tmp_path_factory, random_weights, digits):
    path = tmp_path_factory.mktemp("serve") / "weights.safetensors"
    weights = {name: value.astype(np.float32) for name, value in random_weights(CONFIG).items()}
    canonical.save(path, weights, CONFIG, Usage(digits.finetune.classes, Preprocessing(digits.mean, digits.std)))
    return path


@pytest.fixture
def started(repo, file, tmp_path):
    """A function that starts the command and gives its process and a client, once it has said where it is."""
    processes = []

    def start(*arguments):
        path = os.pathsep.join(map(str, (repo, repo / "packages/fe_compat")))
        processes.append(subprocess.Popen(
            [sys.executable, "-m", "vit", "serve", str(file), "--port", "0", *arguments], cwd=tmp_path, text=True,
            env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        line = processes[-1].stdout.readline()
        found = re.fullmatch(r".*: 10 classes, PyTorch, at http://127\.0\.0\.1:(\d+); Ctrl-C ends it\n", line)
        assert found, line + processes[-1].stderr.read()
        return processes[-1], Client(int(found[1]))

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def _requests(digits):
    """Bodies of photos, a tenth of them broken."""
    whole = []
    for image in digits.finetune.test.images[:9]:
        content = io.BytesIO()
        Image.fromarray(image).resize((640, 480)).save(content, "JPEG")
        whole.append(content.getvalue())
    return [*whole, whole[0][:1000]]


@pytest.mark.backend("torch")
@pytest.mark.parametrize(("number", "count"), [
    (signal.SIGTERM, 100), pytest.param(signal.SIGINT, 500, marks=pytest.mark.full)])
def test_it_answers_all_in_bounded_memory_and_ends_at_a_signal(started, digits, number, count, tmp_path):
    process, client = started()
    bodies = _requests(digits)

    def ask(index):
        return client.predict(bodies[index % 10], Content_Type="image/jpeg")[0]

    def memory():
        return float(re.search(r"^process_resident_memory_bytes (\S+)", client.get("/metrics"), re.MULTILINE)[1])

    before = memory()
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        statuses = list(pool.map(ask, range(count)))
    assert statuses == [200 if index % 10 < 9 else 422 for index in range(count)]
    assert memory() < 1.5 * before
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, f"ended after {count} requests for a prediction\n", "")
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_one_line(file, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", str(file), "--port", str(port)]) == 2
    assert capsys.readouterr().err == (
        f"error: port {port}: is in use; name another with --port, 0 for any that is free\n")


def test_what_is_missing_is_named(file, capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *of: None if name == "uvicorn" else find(name, *of))
    assert main(["serve", str(file), "--port", "0"]) == 2
    err = capsys.readouterr().err
    assert "pip install starlette uvicorn prometheus_client" in err and err.count("\n") == 1


@pytest.mark.parametrize(("arguments", "fragment"), [
    (("none",), "none: no such file"), (("{file}", "--port", "70000"), "port must be from 0 to 65535"),
    (("{file}", "--host", "256.0.0.1"), "host 256.0.0.1: "), (("{file}", "--host", "192.0.2.1"), "cannot be served at"),
    (("{file}", "--queue", "0"), "queue must be at least 1"), (("{file}", "--timeout", "nan"), "timeout must be"),
    (("{file}", "--backend", "torch,jax"), "'jax' is none of torch, tf"),
    (("{file}", "--backend", "onnx"), "is no ONNX export")])
def test_bad_input_is_one_line(arguments, fragment, file, capsys):
    filled = [one.format(file=file) for one in arguments]
    try:
        status = main(["serve", "--port", "0", *filled])
    except SystemExit as ended:
        status = ended.code
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1) and fragment in err and err.startswith("error: ")
