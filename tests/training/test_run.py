"""The run from end to end on digits, with PyTorch: what it trains and what it leaves."""
import contextlib
import csv
import dataclasses
import io
import json
import shutil
import socket
import struct

import numpy as np
import pytest

from vit.files import canonical
from vit.model import parameters
from vit.model.config import VARIANTS
from vit.model.oracle import forward
from vit.training import pipeline, run
from vit.training.recipe import Recipe

pytestmark = pytest.mark.backend("torch")
OPTIONS = {"data": "digits", "variant": "tiny", "batch_size": 16, "pretrain_epochs": 2, "finetune_epochs": 1,
           "train_steps_per_epoch": 3, "eval_steps_per_epoch": 2, "seed": 7, "log_steps": 0}
EPOCH = {"epoch", "learning_rate", "train_loss", "train_seconds", "step_seconds", "images_per_second", "eval_loss",
         "accuracy", "top5", "eval_seconds"}


def _train_with_torch(folder, **options):
    """A run of vit_torch, and what it printed."""
    import vit_torch
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        results = vit_torch.fastestimator_run(**OPTIONS | {"model_dir": str(folder)} | options)
    return folder, results, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole run: pretrain, finetune, from scratch."""
    return _train_with_torch(tmp_path_factory.mktemp("whole"), compare_scratch=True)


def test_run_leaves_exactly_these_files(whole):
    folder, *_ = whole
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        *(f"best/{name}_best_accuracy.safetensors" for name in ("finetune", "pretrain", "scratch")),
        *(f"checkpoints/{name}.safetensors" for name in ("finetune-00000003", "pretrain-00000003", "pretrain-00000006",
                                                         "scratch-00000003")),
        "classes.json", "curves.png", "finetuned.safetensors", "graph.json", "history.csv", "predictions.png",
        "pretrained.safetensors", "recipe.yaml", "results.json", "scratch.safetensors", "times.csv", "train.log"]


def test_results_hold_every_documented_key(whole):
    folder, results, *_ = whole
    assert json.loads((folder / "results.json").read_text()) == results
    assert set(results) == {"backend", "versions", "git_commit", "command", "spec", "recipe", "seed",
                            "pretrained_from", "stretches", "stages", "images_per_second", "seconds", "weights_sha256"}
    assert results["backend"] == "torch"
    assert set(results["versions"]) >= {"python", "torch", "fastestimator", "numpy"}
    assert results["spec"] == VARIANTS["tiny"].replace(num_classes=10).to_dict()
    given = {name: value for name, value in OPTIONS.items() if name != "log_steps"}
    assert results["recipe"].items() >= given.items()
    assert results["recipe"].items() >= {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 1e-4}.items()
    assert results["seed"] == 7
    assert results["pretrained_from"] is None
    assert results["seconds"] > 0 and results["images_per_second"] > 0


def test_results_hold_each_stages_epochs(whole):
    _, results, *_ = whole
    assert {name: (stage["data"], [epoch["epoch"] for epoch in stage["epochs"]])
            for name, stage in results["stages"].items()} == {
        "pretrain": ("digits100", [1, 2]), "finetune": ("digits10", [1]), "scratch": ("digits10", [1])}
    for stage in results["stages"].values():
        for epoch in stage["epochs"]:
            assert set(epoch) == EPOCH
            assert 0 <= epoch["accuracy"] <= 1
            assert round(epoch["accuracy"] * 32, 6).is_integer()  # two batches of 16 were looked at
    assert 4 < results["stages"]["pretrain"]["epochs"][0]["train_loss"] < 6  # ln 100 = 4.6
    assert 1.8 < results["stages"]["scratch"]["epochs"][0]["eval_loss"] < 3  # ln 10 = 2.3


def test_fingerprints_are_those_of_the_files(whole):
    folder, results, *_ = whole
    files = {"pretrain": "pretrained", "finetune": "finetuned", "scratch": "scratch"}
    for stage, file in files.items():
        weights, config = canonical.load(folder / f"{file}.safetensors")
        assert results["stages"][stage]["weights_sha256"] == parameters.sha256(weights)
        assert config.num_classes == (100 if stage == "pretrain" else 10)
        assert weights["head.weight"].shape == (config.num_classes, 64)
        assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}
    assert results["weights_sha256"] == results["stages"]["finetune"]["weights_sha256"]
    assert len({stage["weights_sha256"] for stage in results["stages"].values()}) == 3


def test_training_moves_every_tensor(whole):
    folder, *_ = whole
    weights, config = canonical.load(folder / "pretrained.safetensors")
    start = parameters.initial(config, 7)
    assert [name for name in weights if (weights[name] == start[name]).all()] == []


def test_evaluation_is_the_oracles_over_the_test_images(whole, digits):
    folder, results, *_ = whole
    images = digits.finetune.test
    for name, file in (("finetune", "finetuned"), ("scratch", "scratch")):
        weights, config = canonical.load(folder / f"{file}.safetensors")
        logits = forward(config, weights, (images.images[:32] / 255 - digits.mean) / digits.std)["logits"]
        loss = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(32), images.labels[:32]]
        epoch = results["stages"][name]["epochs"][-1]
        assert epoch["accuracy"] == (logits.argmax(axis=1) == images.labels[:32]).mean()
        assert epoch["eval_loss"] == pytest.approx(loss.mean(), abs=1e-5)


def test_training_is_sgd_with_momentum_and_decay_on_the_pipelines_batches(whole, digits):
    """The finetune's three steps again, in plain PyTorch with the update written out."""
    import torch

    import vit_torch
    folder, *_ = whole
    config, recipe = VARIANTS["tiny"].replace(num_classes=10), Recipe(batch_size=16, seed=7)
    pretrained, _ = canonical.load(folder / "pretrained.safetensors")
    start, _ = parameters.copy_encoder(pretrained, parameters.initial(config, 7))
    model = vit_torch.from_numpy(vit_torch.ViT(config), start)
    velocity = [torch.zeros_like(parameter) for parameter in model.parameters()]
    line = pipeline.build(digits.finetune.train, digits.finetune.test, digits, recipe, channels_first=True)
    with line(mode="train", epoch=1, steps_per_epoch=3) as loader:
        for batch in loader:
            loss = torch.nn.functional.cross_entropy(model(batch["x"]), batch["y"])
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for w, v, g in zip(model.parameters(), velocity, gradients, strict=True):
                    v.mul_(0.9).add_(g + 1e-4 * w)
                    w.sub_(0.01 * v)
    ended, _ = canonical.load(folder / "finetuned.safetensors")
    for name, value in vit_torch.to_numpy(model).items():
        np.testing.assert_allclose(ended[name], value, rtol=0, atol=1e-6, err_msg=name)


def test_history_is_the_results_as_two_tables(whole):
    folder, results, *_ = whole
    epochs = [epoch for stage in results["stages"].values() for epoch in stage["epochs"]]
    times = {name for name in EPOCH if name.endswith("seconds") or name == "images_per_second"}
    for name, columns in (("history.csv", EPOCH - times | {"loss_scale", "skipped_steps"}),
                          ("times.csv", times | {"epoch"})):
        with open(folder / name, newline="") as file:
            rows = list(csv.DictReader(file))
        assert [(row["stage"], row["epoch"]) for row in rows] == [("pretrain", "1"), ("pretrain", "2"),
                                                                  ("finetune", "1"), ("scratch", "1")]
        for row, epoch in zip(rows, epochs, strict=True):
            assert set(row) == columns | {"stage"}
            assert {key: float(row[key]) for key in columns & EPOCH} == {key: epoch[key] for key in columns & EPOCH}
            assert row.get("loss_scale", "") == ""


def test_curves_are_an_image(whole):
    folder, *_ = whole
    data = (folder / "curves.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    assert 600 < width < 4000 and 400 < height < 4000
    import cv2
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape == (height, width, 3)
    assert 0.5 < (pixels == 255).all(axis=-1).mean() < 0.999


def test_progress_bar_is_silent_where_the_output_is_no_terminal(whole):
    *_, out, err = whole
    assert err == ""
    assert "step/s" not in out and "it/s" not in out


def test_run_ends_with_a_table_and_says_what_was_copied(whole):
    folder, results, out, _ = whole
    table = out[out.rindex("Top-1 accuracy"):]
    assert [line.split()[0] for line in table.splitlines()[2:5]] == ["pretrain", "finetune,", "finetune,"]
    assert f"{results['stages']['finetune']['epochs'][-1]['accuracy']:.1%}" in table
    assert str(folder) in table
    assert out.count("encoder copied: 54 tensors, 147,520 values; new: head.weight [10, 64], head.bias [10]") == 1


def test_same_seed_gives_the_same_weights(whole, tmp_path):
    """Without the stage from scratch and with workers: neither may change the finetune."""
    _, results, *_ = _train_with_torch(tmp_path, num_workers=1)
    assert results["weights_sha256"] == whole[1]["weights_sha256"]
    assert set(results["stages"]) == {"pretrain", "finetune"}


def test_an_evaluation_sees_no_image_twice(whole, tmp_path):
    """One of more steps than the set has is one of the whole set."""
    several = {"pretrained": str(whole[0] / "pretrained.safetensors"), "batch_size": 300}
    _, asked, *_ = _train_with_torch(tmp_path / "asked", **several, eval_steps_per_epoch=1000)
    _, every, *_ = _train_with_torch(tmp_path / "every", **several, eval_steps_per_epoch=None)
    [asked], [every] = (results["stages"]["finetune"]["epochs"] for results in (asked, every))
    assert {name: asked[name] for name in ("accuracy", "top5", "eval_loss")} == {
        name: every[name] for name in ("accuracy", "top5", "eval_loss")}


def test_another_seed_gives_other_weights(whole, tmp_path):
    _, results, *_ = _train_with_torch(tmp_path, seed=8, pretrain_epochs=1)
    assert results["weights_sha256"] != whole[1]["weights_sha256"]


@pytest.mark.plots
def test_pretrained_file_stands_in_for_pretraining(whole, tmp_path):
    file = str(whole[0] / "pretrained.safetensors")
    folder, results, *_ = _train_with_torch(tmp_path, pretrained=file)
    assert set(results["stages"]) == {"finetune"}
    assert results["pretrained_from"] == file
    assert results["weights_sha256"] == whole[1]["weights_sha256"]
    assert not (folder / "pretrained.safetensors").exists()
    assert (folder / "curves.png").stat().st_size > 5000
    assert results["images_per_second"] > 0


def test_a_finished_run_goes_on_for_more_epochs(whole, tmp_path):
    """Ends as one of as many from the start, and what was trained from the shorter pretraining is trained again."""
    _train_with_torch(tmp_path, pretrain_epochs=1)
    _, results, *_ = _train_with_torch(tmp_path, pretrain_epochs=2, resume="auto",
                                       resume_override=["pretrain_epochs=2"])
    assert results["recipe"]["pretrain_epochs"] == 2
    for stage in ("pretrain", "finetune"):
        assert results["stages"][stage]["weights_sha256"] == whole[1]["stages"][stage]["weights_sha256"]
    assert [path.name for path in (tmp_path / "checkpoints").glob("*.superseded")] == [
        "finetune-00000003.safetensors.superseded"]
    first, second = results["stretches"]  # what was finetuned from the shorter pretraining is no part of the run
    assert (first["stage"], first["step"], first["recipe"]["pretrain_epochs"]) == ("pretrain", 0, 1)
    assert (second["stage"], second["step"], second["recipe"]) == ("pretrain", 3, {"pretrain_epochs": 2})


def test_a_run_is_not_resumed_on_other_data(whole, tmp_path, monkeypatch, refused):
    """Labels would be permuted in silence."""
    shutil.copytree(whole[0], tmp_path / "run")
    load = run.load

    def renamed(*given, **how):
        pair = load(*given, **how)
        classes = tuple(reversed(pair.finetune.classes))
        return dataclasses.replace(pair, finetune=dataclasses.replace(pair.finetune, classes=classes))

    monkeypatch.setattr(run, "load", renamed)
    with refused("other data", "the set to finetune on", "label 0 was '0' and is '9'"):
        _train_with_torch(tmp_path / "run", resume="auto")


def test_the_record_of_a_finished_run_takes_no_change_that_no_step_was_trained_with(whole, tmp_path, refused):
    shutil.copytree(whole[0], tmp_path / "run")
    before = (tmp_path / "run" / "results.json").read_bytes()
    with refused("the run is finished", "learning_rate=0.5", "more epochs"):
        _train_with_torch(tmp_path / "run", resume="auto", resume_override=["learning_rate=0.5"])
    assert (tmp_path / "run" / "results.json").read_bytes() == before


def test_results_say_how_they_came_about(whole, repo):
    import subprocess
    commit = subprocess.run(["git", "-C", repo, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    assert (whole[1]["git_commit"] or "").rstrip("+") == commit.stdout.strip()
    assert "pytest" in whole[1]["command"] or "-c" in whole[1]["command"]


def test_results_say_what_each_part_of_a_run_was_trained_with(whole):
    [stretch] = whole[1]["stretches"]
    assert (stretch["stage"], stretch["step"], stretch["backend"]) == ("pretrain", 0, "torch")
    assert stretch["recipe"] == whole[1]["recipe"] and stretch["versions"] == whole[1]["versions"]
    assert stretch["host"] == socket.gethostname() and stretch["num_workers"] == 0


def test_an_average_may_begin_when_a_run_goes_on(tmp_path):
    """It begins at the weights that are there."""
    _, short, *_ = _train_with_torch(tmp_path, pretrain_epochs=1)
    changes = {"pretrain_epochs": 2, "ema_decay": 0.999999}
    overrides = [f"{name}={value}" for name, value in changes.items()]
    _, results, *_ = _train_with_torch(tmp_path, resume="auto", resume_override=overrides, **changes)
    first, second = results["stages"]["pretrain"]["epochs"]
    assert second["eval_loss"] == pytest.approx(first["eval_loss"], abs=1e-4) and second["train_loss"] > 0
    assert first["eval_loss"] == short["stages"]["pretrain"]["epochs"][0]["eval_loss"]
