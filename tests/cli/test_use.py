"""`vit evaluate` and `vit predict`: their figures, files and plots, and what they say of bad input."""
import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from vit.cli.commands import main
from vit.files import canonical
from vit.files.usage import Preprocessing, Usage
from vit.model import parameters
from vit.model.config import VARIANTS

pytestmark = pytest.mark.backend("torch")

CONFIG = VARIANTS["tiny"].replace(num_classes=10)


@pytest.fixture(scope="module")
def file(tmp_path_factory, random_weights, digits):
    path = tmp_path_factory.mktemp("use") / "weights.safetensors"
    weights = {name: value.astype(np.float32) for name, value in random_weights(CONFIG).items()}
    canonical.save(path, weights, CONFIG, Usage(digits.finetune.classes, Preprocessing(digits.mean, digits.std)))
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory, digits):
    """A folder with images in it and below it, one of which is damaged."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "below").mkdir()
    for index in range(5):
        place = folder / "below" if index > 2 else folder
        Image.fromarray(digits.finetune.test.images[index]).save(place / f"{index}.png")
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:100])
    (folder / "notes.txt").write_text("no image")
    return folder


def _ends(capsys, *arguments):
    status = main([*map(str, arguments)])
    return status, *capsys.readouterr()


def test_an_evaluation_says_what_it_counted(file, tmp_path, capsys):
    status, out, _ = _ends(capsys, "evaluate", file, "--data", "digits", "--out", tmp_path / "found", "--json")
    content = json.loads(out)
    assert status == 0 and content["images"] == 360 and content["data"] == "digits10"
    assert json.loads((tmp_path / "found/metrics.json").read_text()) == content
    rows = list(csv.DictReader(io.StringIO((tmp_path / "found/classes.csv").read_text())))
    assert [row["class"] for row in rows] == list("0123456789")
    right = sum(int(row["images"]) * float(row["recall"] or 0) for row in rows)
    assert right / 360 == pytest.approx(content["top1"])
    assert Image.open(tmp_path / "found/confusion.png").size[0] > 300
    status, out, _ = _ends(capsys, "evaluate", file, "--data", "digits")
    assert status == 0 and f"top-1 {content['top1']:.2%}, top-5 {content['top5']:.2%}" in out


def test_what_was_set_apart_is_a_part_of_the_training_images(file, capsys):
    parts = [json.loads(_ends(capsys, "evaluate", file, "--data", "digits", "--json", "--val_fraction", 0.1, "--seed",
                              seed, "--split", split)[1]) for seed, split in ((3, "train"), (3, "val"), (4, "val"))]
    train, val, other = parts
    assert train["images"] + val["images"] == 1437 and val["images"] == other["images"] == 146
    assert val["loss"] != other["loss"]
    whole = json.loads(_ends(capsys, "evaluate", file, "--data", "digits", "--json", "--split", "train")[1])
    loss = (train["loss"] * train["images"] + val["loss"] * val["images"]) / 1437
    assert whole["loss"] == pytest.approx(loss, rel=1e-6)
    for flags in (("--split", "val"), ("--val_fraction", 1), ("--seed", -1)):
        status, _, err = _ends(capsys, "evaluate", file, "--data", "digits", *flags)
        assert status == 2 and err.count("\n") == 1


def test_a_set_of_other_classes_is_refused(tmp_path, capsys):
    canonical.save(tmp_path / "w", parameters.initial(CONFIG, 0), CONFIG, Usage(tuple("abcdefghij")))
    status, _, err = _ends(capsys, "evaluate", tmp_path / "w", "--data", "digits")
    assert status == 2 and "10 classes (a, b, c, ...)" in err and "digits10 has 10 (0, 1, 2" in err


def test_predictions_are_the_likeliest_classes(file, images, capsys):
    status, out, err = _ends(capsys, "predict", file, images, "--top_k", 3, "--json", "--batch_size", 2)
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["image"].removeprefix(f"{images}/") for row in rows] == [
        "0.png", "1.png", "2.png", "below/3.png", "below/4.png"]
    for row in rows:
        values = [one["probability"] for one in row["predictions"]]
        assert len(values) == 3 and values == sorted(values, reverse=True) and sum(values) <= 1
    assert status == 1 and "broken.png" in err and "1 of 6 images could not be read" in err


def test_an_image_that_is_not_there_is_one_that_cannot_be_read(file, images, capsys):
    status, out, err = _ends(capsys, "predict", file, "none.png", images / "0.png")
    assert status == 1 and out.startswith(f"{images}/0.png: ") and "none.png: No such file or directory" in err


def test_forms_and_patterns_agree(file, images, tmp_path, capsys):
    whole = [images / f"{index}.png" for index in range(3)]
    table = _ends(capsys, "predict", file, *whole, "--csv", "--top_k", 1)[1]
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["image"] for row in rows] == list(map(str, whole))
    status, out, _ = _ends(capsys, "predict", file, f"{images}/[0-2].png", "--top_k", 1,
                           "--grid", tmp_path / "grid.png")
    assert status == 0 and [line.split(": ")[1].split()[0] for line in out.splitlines()] == [
        row["class"] for row in rows]
    assert Image.open(tmp_path / "grid.png").size[0] > 300


@pytest.mark.parametrize(("method", "shape"), [
    ("attention", (4, 4, 4, 4)), ("rollout", (4, 4)), ("gradient", (32, 32))])
def test_what_is_looked_at_is_drawn_and_written(method, shape, file, images, tmp_path, capsys):
    (tmp_path / "0.png").write_bytes((images / "1.png").read_bytes())
    status, out, err = _ends(capsys, "explain", file, images / "0.png", tmp_path / "0.png", images / "broken.png",
                             "--method", method, "--out", tmp_path / "out")
    assert status == 1 and "broken.png" in err and "1 of 3 images could not be read" in err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"0-{number}{method}.{ending}" for number in ("", "2-") for ending in ("png", "npz")}
    assert out.count("\n") == 2 and out.startswith(f"{images}/0.png: ")
    with np.load(tmp_path / f"out/0-{method}.npz") as content:
        assert content[method].shape == shape and content["image"].shape == (32, 32, 3)
        assert content["probabilities"].sum() == pytest.approx(1)
    assert Image.open(tmp_path / f"out/0-{method}.png").size[0] > 300


def test_what_a_run_leaves_is_evaluated_to_its_own_figures(tmp_path, capsys):
    """The accuracy in `results.json`, from the weights, from the run's folder and from its best model."""
    from vit.backend import load_script
    found = load_script("torch").fastestimator_run(
        data="digits", variant="tiny", batch_size=64, pretrain_epochs=1, finetune_epochs=1, train_steps_per_epoch=5,
        seed=1, model_dir=tmp_path / "run", log_steps=0)
    capsys.readouterr()
    for source, stage in (("finetuned.safetensors", "finetune"), ("pretrained.safetensors", "pretrain"),
                          ("", "finetune"), ("best/finetune_best_accuracy.safetensors", "finetune"),
                          ("checkpoints", "finetune")):
        _, out, _ = _ends(capsys, "evaluate", tmp_path / "run" / source, "--data", "digits", "--json")
        last, content = found["stages"][stage]["epochs"][-1], json.loads(out)
        assert content["data"] == found["stages"][stage]["data"]
        assert content["top1"] == pytest.approx(last["accuracy"], abs=1e-12)
        assert content["loss"] == pytest.approx(last["eval_loss"], rel=1e-5)


@pytest.mark.parametrize(("arguments", "fragment"), [
    (("predict", "{file}", "*.none"), "*.none: no file is called so"),
    (("predict", "{file}", "{empty}"), "holds no image"), (("predict", "none", "{images}"), "none: no such file"),
    (("predict", "{file}", "{images}", "--top_k", "0"), "top_k must be at least 1"),
    (("predict", "{file}", "{images}", "--batch_size", "-1"), "batch_size must be at least 1"),
    (("explain", "{file}", "*.none"), "*.none: no file is called so"),
    (("explain", "none", "{images}", "--out", "{empty}/a"), "none: no such file"),
    (("explain", "{file}", "{images}", "--out", "/proc/found"), "out cannot be written"),
    (("evaluate", "{file}", "--data", "folder", "--data_dir", "{empty}"), "train"),
    (("evaluate", "{file}", "--data", "digits", "--batch_size", "0"), "batch_size must be at least 1"),
    (("evaluate", "none", "--data", "digits"), "none: no such file"),
    (("evaluate", "{file}", "--data", "digits", "--out", "{file}"), "out cannot be written (it is a file)"),
    (("evaluate", "{file}", "--data", "digits", "--out", "/proc/found"), "out cannot be written"),
    (("predict", "{file}", "{images}", "--grid", "{empty}"), "is a folder; name a file for --grid"),
    (("predict", "{file}", "{images}", "--grid", "{empty}/grid.txt"), "name a file that ends in .png"),
    (("predict", "{file}", "{images}", "--grid", "/proc/found/grid.png"), "grid cannot be written")])
def test_bad_input_is_one_line(arguments, fragment, file, images, tmp_path, capsys):
    filled = [one.format(file=file, images=images, empty=tmp_path) for one in arguments]
    status, out, err = _ends(capsys, *filled)
    assert (status, out, err.count("\n")) == (2, "", 1) and fragment in err and err.startswith("error: ")
