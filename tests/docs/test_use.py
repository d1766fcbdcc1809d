"""Each command of docs/use.md ends well, in the order of the page; and so does its Python."""
import dataclasses
import json
import re
import shlex

import numpy as np
import pytest
from PIL import Image

from tests.serve.conftest import running
from vit.cli.commands import main
from vit.files import canonical
from vit.files.usage import Preprocessing, Usage
from vit.model.config import VARIANTS
from vit.serve import server
from vit.serve.limits import Limits
from vit.use.formats import FORMATS


def _blocks(repo, language=""):
    found = re.findall(r"^```(\w*)\n(.*?)^```", (repo / "docs/use.md").read_text(), re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


def _commands(repo):
    lines = [line for block in _blocks(repo) for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines]


def _parts(repo):
    """The commands up to the first export, and the others."""
    commands = _commands(repo)
    first = [one[1] for one in commands].index("export")
    assert (first, len(commands) - first) == (10, 16)
    return commands[:first], commands[first:]


@pytest.fixture
def place(tmp_path, monkeypatch, random_weights, digits):
    """The folder that the page speaks of; a small model stands for the demo's."""
    config = VARIANTS["tiny"].replace(num_classes=10, depth=1, patch_size=16)
    (tmp_path / "runs/demo-torch").mkdir(parents=True)
    (tmp_path / "photos").mkdir()
    weights = {name: value.astype(np.float32) for name, value in random_weights(config).items()}
    canonical.save(tmp_path / "runs/demo-torch/finetuned.safetensors", weights, config,
                   Usage(digits.finetune.classes, Preprocessing(digits.mean, digits.std)))
    for number in (3, 7):
        Image.fromarray(digits.finetune.test.images[number]).save(tmp_path / f"photos/{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(commands, capsys):
    for name, *arguments in commands:
        assert name == "vit"
        status = main(arguments)
        out, err = capsys.readouterr()
        assert (status, bool(out)) == (0, True), (arguments, err)


def _executed(snippet):
    names = {}
    exec(snippet, names)
    return names


def test_the_page_names_every_form_and_what_it_needs(repo):
    exports = {command[command.index("--to") + 1] for command in _commands(repo) if "--to" in command}
    assert exports == set(FORMATS)
    for name, form in FORMATS.items():
        [row] = re.findall(rf"^\| `{name}` \|.*$", (repo / "docs/use.md").read_text(), re.MULTILINE)
        assert all(module.replace("_", "-") in row for module in {*form.writes, *form.runs}), row


@pytest.mark.backend("torch")
def test_commands_that_export_nothing_end_well(repo, place, capsys):
    _run(_parts(repo)[0], capsys)
    assert {"found", "heads", "pixels", "explained", "grid.png"} <= {one.name for one in place.iterdir()}


@pytest.mark.full_in("tf", "ms")
def test_lines_of_python_end_well_in_each_framework(repo, place, backend):
    one_line, trainer, *_ = (text.replace('"torch"', f'"{backend}"') for text in _blocks(repo, "python"))
    names = _executed(one_line)
    assert names["features"].shape == (2, VARIANTS["tiny"].width)
    assert names["model"].config.num_classes == 10
    names = _executed(trainer)
    assert names["results"]["backend"] == backend and len(names["found"]) == 3
    assert names["figures"]["top1"] == names["results"]["stages"]["scratch"]["epochs"][-1]["accuracy"]
    assert len(names["longer"]["stages"]["scratch"]["epochs"]) == 3


@pytest.mark.parametrize("number", [
    pytest.param(0, marks=pytest.mark.backend("torch")),
    pytest.param(1, marks=[pytest.mark.backend("torch", "tf", "ms"), pytest.mark.full])])
def test_what_is_served_answers_the_pages_request(number, repo, place, capsys, monkeypatch):
    """The server is ended once it has answered; with a free port, and few sizes of batches to compile for."""
    [block] = _blocks(repo, "sh")
    *commands, (_, _, data, _, header, address) = [shlex.split(line, comments=True) for line in block.splitlines()]
    answers = []

    def serve(app, taken):
        path = address.removeprefix("http://127.0.0.1:8080").replace("=tf", ["=torch", "=tf"][number])
        with running(app, taken) as client:
            answers.append(client.request("POST", path, (place / data.removeprefix("@")).read_bytes(),
                                          dict([header.split(": ")])))

    monkeypatch.setattr(server, "serve", serve)
    _run([[*commands[number], "--port", "0", "--max_batch", "1"]], capsys)
    [(status, content, _)] = answers
    assert status == 200 and len(json.loads(content)["predictions"]) == 3


def test_the_page_names_every_limit(repo):
    text = (repo / "docs/use.md").read_text()
    for field in dataclasses.fields(Limits):
        assert f"`--{field.name}` {field.default:,g}" in text or f"`--{field.name}` {field.default:,}" in text


@pytest.mark.full
@pytest.mark.backend("torch", "tf", "ms")
def test_commands_of_exported_files_end_well(repo, place, capsys):
    # The weights are random: accuracy may do what it likes.
    _run([[*one, "--max_loss", "100"] if "--quantize" in one else one for one in _parts(repo)[1]], capsys)
    names = _executed(_blocks(repo, "python")[2])
    assert names["probabilities"].shape == (1, 10) and names["probabilities"].sum() == pytest.approx(1)
