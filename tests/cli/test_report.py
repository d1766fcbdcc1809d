"""`vit report`: one page about runs that have ended, were stopped, are old, damaged or hostile."""
import base64
import json
import os
import re
import shutil
from html.parser import HTMLParser

import pytest

from tests.fixtures import COMMIT_7D1C055
from tests.training.past_runs import GRAPH, PNG, epoch, leave, results
from vit.cli.commands import main

_VOID = {"meta", "img", "path"}


class _Page(HTMLParser):
    """A page as a browser reads it: its tags must close each other, and its texts are kept."""

    def __init__(self, content):
        super().__init__()
        self.open, self.seen, self.texts, self.content = [], [], [], content
        self.feed(content)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in _VOID or (tag == "path" and not self.get_starttag_text().endswith("/>")):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open[-1:] != ["style"]:
            self.texts.append(text)

    @property
    def text(self):
        return " ".join(self.texts)

    def all(self, tag):
        return [attributes for name, attributes in self.seen if name == tag]


def _report(tmp_path, *runs):
    assert main(["report", *map(str, runs), "--out", str(tmp_path / "page.html")]) == 0
    return _Page((tmp_path / "page.html").read_text())


def test_a_page_of_two_runs_has_it_all_and_asks_for_nothing(tmp_path, capsys):
    one, two = leave(tmp_path / "one"), leave(tmp_path / "two", results(learning_rate=0.005, seed=3))
    page = _report(tmp_path, one, two)
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'page.html'}: 2 runs, ")
    for part in ("2 runs: one, two", "PyTorch", "25.00%", "93.75%", "37.50%", "154,020", "1 min 02 s", "1,234",
                 "digits012345", "AMD EPYC, PyTorch, fp32", "here", "0f1e2d", "vit_torch.py --data digits", "ModelOp",
                 "x, key", "3.11.7"):
        assert part in page.text, part
    differing = page.content.partition("What differs between the recipes")[2].partition("<details>")[0]
    assert re.findall("<code>(.*?)</code>", differing) == ["seed", "learning_rate"]
    assert len(re.findall("BatchDataset", page.content)) == 1  # the same graph stands once
    assert [image["src"] for image in page.all("img")] == [
        f"data:image/png;base64,{base64.b64encode(PNG).decode()}"] * 2
    assert all(len(image["alt"]) > 40 for image in page.all("img"))
    charts = [each for each in page.all("svg") if each.get("role") == "img"]
    assert len(charts) == 4 and all("ends at" in each["aria-label"] for each in charts)
    assert "one, from scratch, test top-1 ends at 37.50%" in charts[-1]["aria-label"]
    assert not re.search(r"https?:|//\w|<script|<link|@import|url\(", page.content)
    assert not [tag for tag, attributes in page.seen if {"href", "onload"} & set(attributes)]


def test_one_runs_recipe_is_held_to_the_defaults(tmp_path):
    page = _report(tmp_path, leave(tmp_path / "one", results(mixup=0.25)))
    differing = page.content.partition("<h2>Recipe</h2>")[2].partition("<details>")[0]
    assert re.findall("<code>(.*?)</code>", differing) == ["variant", "pretrain_epochs", "mixup"]


@pytest.mark.parametrize("path", [
    ("command", ), ("versions", "torch"), ("stages", "pretrain", "data"), ("stages", "pretrain", "weights_sha256"),
    ("stretches", 0, "host"), ("recipe", "variant"), ("backend", ), ("git_commit", ), ("pretrained_from", )])
def test_what_a_file_says_is_text(tmp_path, path):
    content, evil = results(), "<script>alert('&')</script>\"><img src=http://x onerror=y>"
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = evil
    page = _report(tmp_path, leave(tmp_path / "<u>&'\"", content))
    assert not page.all("script") and not page.all("u") and len(page.all("img")) == 1
    assert "<script>" in page.text and "<u>&'\"" in page.text


def test_what_a_graph_and_a_stage_are_called_is_text(tmp_path):
    content, evil = results(), "<script>"
    content["stages"] = {evil: content["stages"]["pretrain"]}
    folder = leave(tmp_path / "run", content)
    (folder / "graph.json").write_text(json.dumps({evil: {evil: [
        {"op": evil, "mode": [evil], "inputs": [evil], "outputs": evil}, 7]}}))
    page = _report(tmp_path, folder)
    assert not page.all("script") and page.text.count("<script>") >= 5


def test_a_stages_name_is_on_one_line_and_can_be_written(tmp_path):
    content = results()
    content["stages"] = {"\ud800a\nb": content["stages"]["pretrain"]}
    page = _report(tmp_path, leave(tmp_path / "run", content))
    assert "run, ?a b, test top-1 ends at 25.00%" in page.content


def test_a_masked_autoencoder_has_a_loss_alone(tmp_path):
    content = results()
    content["stages"] = {"mae": {"data": "pairs", "epochs": [{"epoch": 1, "train_loss": 2.0, "eval_loss": 1.5}]},
                         "pretrain": content["stages"]["pretrain"]}
    page = _report(tmp_path, leave(tmp_path / "run", content))
    titles = [each["aria-label"].partition(";")[0] for each in page.all("svg") if each.get("role") == "img"]
    assert titles == ["Masked autoencoder on pairs: loss", "Pretraining on pairs: loss",
                      "Pretraining on pairs: accuracy on the test images"]
    assert page.texts.count("mean squared error") == page.texts.count("cross entropy") == 1


@pytest.mark.parametrize(("weights", "head"), [
    ("best/finetune_best_accuracy.safetensors", "test top-1, of the best epoch"), ("the last epoch's", "test top-1"),
    (None, "test top-1")])
def test_whose_accuracy_on_the_test_images_it_is(tmp_path, weights, head):
    content = results()
    content["stages"]["pretrain"]["test"] = {"weights": "best/pretrain_best_accuracy.safetensors", "accuracy": 0.75}
    content["stages"]["finetune"]["test"] = {"weights": weights, "accuracy": 0.625}
    page = _report(tmp_path, leave(tmp_path / "run", content))
    assert head in page.texts and "62.50%" in page.text


def _places(value, path=()):
    """The path to each value within a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*path, key)
        yield from _places(one, (*path, key))


def test_values_of_the_wrong_kind_are_left_out(tmp_path):
    from vit.training.report.page import document, past
    folder = leave(tmp_path / "run")
    for path in _places(results()):
        if {"finetune", "scratch", 1} & set(path) or ({"recipe", "spec"} & set(path[:-1]) and path[-1] != "seed"):
            continue  # one stage, and one epoch of it, stands for all
        for wrong in (None, {}, "?", 10**400, [[7]]):
            content = results()
            inner = content
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = wrong
            (folder / "results.json").write_text(json.dumps(content))
            assert "</html>" in document.write([past.read(folder)]), (path, wrong)


def test_a_run_that_was_stopped_is_shown_by_its_checkpoints(tmp_path, capsys):
    """Those of an older format; one is damaged, and the newest whole one is taken."""
    folder = tmp_path / "run"
    shutil.copytree(COMMIT_7D1C055 / "run", folder)
    newest = folder / "checkpoints/finetune-00000009.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    (folder / "train.log").write_text("2026-11-29 01:02:03  begins\n2026-11-29 01:02:04  error: <the disk>\n\n")
    page = _report(tmp_path, folder)
    err = capsys.readouterr().err
    assert "has not come to its end; its log ends with: 2026-11-29 01:02:04 error: <the disk>" in err
    assert "finetune-00000009.safetensors: not a whole" in err
    assert "not ended" in page.text and "1 of 2" in page.text and "PyTorch" in page.text
    assert len([each for each in page.all("svg") if each.get("role") == "img"]) == 2


def test_a_history_alone_is_shown(tmp_path):
    rows = ["stage,epoch,train_loss,eval_loss,accuracy", "pretrain,1,2.5,2.75,0.5", "pretrain,2,1.5,,",
            "scratch,1,nan,inf,0.25"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run/history.csv").write_text("\n".join(rows))
    page = _report(tmp_path, tmp_path / "run")
    assert "not ended" in page.text and "2.7500" in page.text and "25.00%" in page.text


def test_without_plots_graph_and_log_the_rest_is_there(tmp_path):
    folder = leave(tmp_path / "run")
    for name in ("graph.json", "train.log", "recipe.yaml"):
        (folder / name).unlink()
    (folder / "predictions.png").write_text("no image")
    page = _report(tmp_path, folder)
    assert "Curves" in page.text and "Op graph" not in page.text and "Predictions" not in page.text


def test_runs_of_one_name_are_told_apart_and_one_that_comes_twice_is_shown_once(tmp_path, monkeypatch):
    leave(tmp_path / "a/run")
    leave(tmp_path / "b/run")
    monkeypatch.chdir(tmp_path)
    assert "2 runs: a/run, b/run" in _report(tmp_path, "a/run", "b/run").text
    assert "Run run" in _report(tmp_path, "a/run", "a/../a/run/").text


def _ends_in_a_line(capsys, arguments, fragment):
    assert main(["report", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and fragment in err and err.count("\n") == 1, err


def test_what_is_no_run_is_one_line(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    page = ("--out", tmp_path / "page.html")
    _ends_in_a_line(capsys, (tmp_path / "none", *page), "none: no such folder")
    _ends_in_a_line(capsys, (tmp_path / "file", *page), "file: is no folder")
    _ends_in_a_line(capsys, (leave(tmp_path / "one"), tmp_path / "empty", *page), "empty: no run lies there")
    for text, fragment in (("{", "not a whole JSON file"), ("[1]", "is no JSON object"), ("[" * 99_999, "not a whole")):
        (tmp_path / "one/results.json").write_text(text)
        _ends_in_a_line(capsys, (tmp_path / "one", *page), f"results.json: {fragment}")
    (tmp_path / "one/results.json").unlink()
    os.mkfifo(tmp_path / "one/results.json")
    _ends_in_a_line(capsys, (tmp_path / "one", *page), "is a pipe")
    assert not (tmp_path / "page.html").exists()


def test_where_the_page_goes(tmp_path, capsys, monkeypatch):
    one = leave(tmp_path / "one")
    _ends_in_a_line(capsys, (one, "--out", one / "results.json"), "ends in .html")
    _ends_in_a_line(capsys, (one, "--out", "s3://bucket/page.html"), "this machine")
    (tmp_path / "folder.html").mkdir()
    _ends_in_a_line(capsys, (one, "--out", tmp_path / "folder.html"), "is a folder")
    _ends_in_a_line(capsys, (one, "--out", one / "recipe.yaml/page.html"), "out cannot be written")
    new = tmp_path / "not/yet/page.html"
    assert main(["report", str(one), "--out", str(new)]) == 0
    new.write_text("older")
    monkeypatch.setattr(os, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["report", str(one), "--out", str(new)])
    assert new.read_text() == "older" and len(list(new.parent.iterdir())) == 1
    monkeypatch.undo()
    assert main(["report", str(one), "--out", str(new)]) == 0 and "<!doctype html>" in new.read_text()


def test_a_run_in_s3_is_called_as_it_is_there(tmp_path, s3):
    from vit.remote import transfer
    from vit.remote.address import parse
    for path in leave(tmp_path / "local").iterdir():
        transfer.put(path, parse("s3://bucket/runs/far") / path.name)
    page = _report(tmp_path, "s3://bucket/runs/far", tmp_path / "local")
    assert "2 runs: far, local" in page.text


def test_epochs_that_were_not_evaluated_leave_no_point(tmp_path):
    content = results()
    content["stages"] = {"finetune": {"data": "digits", "epochs": [
        {"epoch": 1, "train_loss": 2.0, "train_seconds": 1.0}, epoch(2, 0.5), {"epoch": 3, "train_loss": None}]}}
    page = _report(tmp_path, leave(tmp_path / "run", content))
    titles = re.findall("<title>(run, .*?)</title>", page.content)
    assert titles == ["run, finetune, training loss, epoch 1: 2.0000", "run, finetune, training loss, epoch 2: 1.0000",
                      "run, finetune, test loss, epoch 2: 1.1250", "run, finetune, test top-1, epoch 2: 50.00 %"]
    assert GRAPH["pretrain"]["network"][0]["op"] in page.text
