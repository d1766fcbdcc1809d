"""Folders of images: what is found, how odd images are read, which are refused, and a run from end to end."""
import contextlib
import csv
import io
import json
import os
import sys
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from vit.backend import load_script
from vit.data import image_folder, load
from vit.data.fingerprint import difference, fingerprint, is_fingerprint
from vit.data.sets import IMAGENET
from vit.errors import UserError
from vit.files import canonical
from vit.model import parameters
from vit.model.config import VARIANTS
from vit.training import pipeline
from vit.training.job import Job, Stage
from vit.training.recipe import Recipe
from vit.training.report import predictions, results

COLOURS = {"blau": (30, 60, 200), "rot": (200, 40, 30), "grün": (40, 190, 60)}
CLASSES = tuple(sorted(COLOURS))


def _image(colour, size=(40, 30), seed=0):
    """A noisy image of one colour."""
    noise = np.random.default_rng(seed).integers(-25, 25, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))


def _make(root, train=4, val=2):
    """A set of three classes in several formats and sizes."""
    for part, count in (("train", train), ("val", val)):
        for name, colour in COLOURS.items():
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                ending = ("jpg", "png", "webp", "JPEG")[i % 4]
                size = (20 + 7 * (i % 4), 34 - 3 * (i % 4))
                _image(colour, size, i).save(root / part / name / f"{i}.{ending}", quality=95)
    return root


@pytest.fixture
def root(tmp_path):
    return _make(tmp_path / "images")


# What is found.

def test_classes_are_the_sorted_names_of_the_folders(root):
    (root / "train" / ".hidden").mkdir()
    (root / "train" / "notes.txt").write_text("not a class")
    pair = load("folder", str(root))
    assert pair.pretrain is None
    assert pair.finetune.classes == CLASSES == ("blau", "grün", "rot")
    assert (len(pair.finetune.train), len(pair.finetune.test)) == (12, 6)
    assert pair.finetune.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    for path, label in zip(pair.finetune.train.paths, pair.finetune.train.labels, strict=True):
        assert path.parent == root / "train" / CLASSES[label]
    assert pair.finetune.train.image_size is None


def test_what_is_no_image_by_its_name_is_not_looked_at(root):
    for name in ("Thumbs.db", "notes.txt", ".0.jpg", "0.jpg.part"):
        (root / "train" / "rot" / name).write_bytes(b"nothing")
    assert len(load("folder", str(root)).finetune.train) == 12


def test_what_lies_beside_the_images_is_counted_in_one_note(root, capsys):
    load("folder", str(root))
    assert capsys.readouterr().out == ""
    for name in (".DS_Store", ".hidden.jpg", "Thumbs.db", "desktop.ini"):  # of file managers: nobody means them
        (root / "train" / "rot" / name).write_bytes(b"nothing")
    load("folder", str(root))
    assert capsys.readouterr().out == ""
    for i in range(12):
        (root / ("train", "val")[i % 2] / CLASSES[i % 3] / f"{i}.heic").write_bytes(b"nothing")
    (root / "train" / "rot" / "more").mkdir()
    _image(RED).save(root / "train" / "rot" / "more" / "0.jpg")
    assert len(load("folder", str(root)).finetune.train) == 12
    assert capsys.readouterr().out == (f"note: {root}: left out of its class folders: 12 files of other kinds and 1 "
                                       f"folder; images end in {', '.join(image_folder.ENDINGS)}\n")


def test_imagenets_layout(tmp_path):
    for part in ("train", "val"):
        for synset in ("n02123045", "n01440764"):
            (tmp_path / part / synset).mkdir(parents=True)
            _image((9, 9, 9)).save(tmp_path / part / synset / f"{synset}_1.JPEG")
    assert load("folder", str(tmp_path)).finetune.classes == ("n01440764", "n02123045")


def test_a_class_may_be_missing_from_the_evaluation(root, capsys):
    for path in (root / "val" / "rot").iterdir():
        path.unlink()
    (root / "val" / "rot").rmdir()
    assert set(load("folder", str(root)).finetune.test.labels) == {0, 1}
    assert f"{root / 'val'}: no image of rot: accuracy is over the other 2 classes" in capsys.readouterr().out


def test_images_are_read_when_they_are_asked_for(root):
    images = load("folder", str(root)).finetune.train
    assert images[0].shape == (34, 20, 3) and images[0].dtype == np.uint8
    images.paths[0].unlink()
    with pytest.raises(ValueError, match=str(images.paths[0])):
        images[0]


# Odd images.

RED = np.array((200, 40, 30))


def _saved(path, image, **options):
    image.save(path, **options)
    return image_folder.read(path)


def test_what_pillow_finds_odd_is_read_without_a_word(tmp_path, monkeypatch):
    """Such as an image of more pixels than it likes, or a TIFF with a field that is cut."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 15)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _saved(tmp_path / "a.png", Image.new("L", (5, 4), 77)).shape == (4, 5, 3)


def test_grey_is_rgb(tmp_path):
    image = _saved(tmp_path / "a.png", Image.new("L", (5, 4), 77))
    assert image.shape == (4, 5, 3) and (image == 77).all()


def test_one_bit_is_rgb(tmp_path):
    assert (_saved(tmp_path / "a.png", Image.new("1", (5, 4), 1)) == 255).all()


def test_palette_is_rgb(tmp_path):
    image = Image.new("RGB", (5, 4), tuple(RED)).convert("P", palette=Image.Palette.ADAPTIVE)
    image = _saved(tmp_path / "a.png", image)
    assert (abs(image.astype(int) - RED) < 4).all()


@pytest.mark.parametrize("ending", ["png", "gif"])
def test_a_transparent_colour_of_a_palette_becomes_white(tmp_path, ending):
    image = Image.new("P", (5, 4), 1)
    image.putpalette([0, 0, 0, *RED, 0, 0, 0])
    image.putpixel((0, 0), 0)
    image = _saved(tmp_path / f"a.{ending}", image, transparency=0)
    assert image[0, 0].tolist() == [255] * 3 and image[1, 1].tolist() == RED.tolist()


@pytest.mark.parametrize(("mode", "colour", "expected"), [("RGBA", (200, 40, 30, 0), (255, 255, 255)),
                                                        ("RGBA", (200, 40, 30, 255), (200, 40, 30)),
                                                        ("LA", (100, 0), (255, 255, 255)), ("LA", (9, 255), (9, 9, 9))])
def test_transparent_pixels_become_white(tmp_path, mode, colour, expected):
    assert (_saved(tmp_path / "a.png", Image.new(mode, (5, 4), colour)) == expected).all()


def test_half_transparent_is_half_white(tmp_path):
    image = _saved(tmp_path / "a.webp", Image.new("RGBA", (5, 4), (0, 0, 0, 128)), lossless=True)
    assert (abs(image.astype(int) - 127) <= 1).all()


def test_cmyk_is_rgb(tmp_path):
    image = _saved(tmp_path / "a.jpg", Image.new("RGB", (16, 16), tuple(RED)).convert("CMYK"), quality=100)
    assert (abs(image.astype(int) - RED) < 6).all()


def test_sixteen_bits_become_eight(tmp_path):
    values = np.array([[0, 128 * 257, 65535]], np.uint16)
    assert _saved(tmp_path / "a.png", Image.fromarray(values))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (3, 4)), (6, (0, 3)), (8, (4, 0)), (2, (0, 4))])
def test_exif_rotates_an_image(tmp_path, orientation, corner):
    """Where the white corner of an image of 5 x 4 ends up."""
    image = Image.new("RGB", (5, 4))
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = _saved(tmp_path / "a.png", image, exif=exif)
    assert image.shape == ((5, 4, 3) if orientation > 4 else (4, 5, 3))
    assert np.argwhere(image.all(axis=-1)).tolist() == [list(corner)]


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (5, 4), colour) for colour in ((200, 40, 30), (0, 0, 255))]
    image = _saved(tmp_path / "a.webp", frames[0], save_all=True, append_images=frames[1:], lossless=True)
    assert (image == RED).all()


# Damaged ones.

def _damage(root):
    """Add five files that cannot be read, and one that can though it is tiny; return the names of the five."""
    rot = root / "train" / "rot"
    whole = io.BytesIO()
    _image(RED, (64, 64)).save(whole, "JPEG", quality=95)
    (rot / "cut.jpg").write_bytes(whole.getvalue()[:-700])
    whole = io.BytesIO()
    _image(RED, (64, 64)).save(whole, "PNG")
    (rot / "cut.png").write_bytes(whole.getvalue()[:-700])
    (rot / "empty.jpg").write_bytes(b"")
    (rot / "page.jpg").write_text("<html>404</html>")
    (root / "val" / "blau" / "code.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    _image(RED, (1, 1)).save(rot / "pixel.png")
    return {"cut.jpg", "cut.png", "empty.jpg", "page.jpg", "code.png"}


@pytest.mark.parametrize("max_decoded", [image_folder._MAX_DECODED, 0], ids=["decoded", "glanced at"])
def test_damaged_images_are_named_in_one_line_with_a_way_out(root, refused, monkeypatch, max_decoded):
    monkeypatch.setattr(image_folder, "_MAX_DECODED", max_decoded)
    names = _damage(root)
    with refused(root, "5 of its images cannot be read", *names, "train/rot/", "--skip_bad_images", "not an image",
                 "truncated"):
        load("folder", str(root))


@pytest.mark.parametrize("max_decoded", [image_folder._MAX_DECODED, 0], ids=["decoded", "glanced at"])
def test_damaged_images_can_be_left_out(root, capsys, monkeypatch, max_decoded):
    monkeypatch.setattr(image_folder, "_MAX_DECODED", max_decoded)
    names = _damage(root)
    pair = load("folder", str(root), skip_bad_images=True)
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and all(name in out for name in names)
    paths = pair.finetune.train.paths + pair.finetune.test.paths
    assert {path.name for path in paths} & names == set()
    assert root / "train" / "rot" / "pixel.png" in paths
    assert (len(pair.finetune.train), len(pair.finetune.test)) == (13, 6)
    assert [image.ndim for image in (pair.finetune.train[i] for i in range(13))] == [3] * 13


@pytest.mark.parametrize("max_decoded", [image_folder._MAX_DECODED, 0], ids=["decoded", "glanced at"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_are_damage(root, refused, monkeypatch, value, max_decoded):
    monkeypatch.setattr(image_folder, "_MAX_DECODED", max_decoded)
    values = np.full((4, 5), 0.5, np.float32)
    Image.fromarray(values).save(root / "train" / "rot" / "whole.tif")
    assert len(load("folder", str(root)).finetune.train) == 13
    values[1, 2] = value
    path = root / "train" / "rot" / "odd.tiff"
    Image.fromarray(values).save(path)
    with refused("1 of its images cannot be read", "train/rot/odd.tiff (it has pixels that are no finite numbers)"):
        load("folder", str(root))
    assert path not in load("folder", str(root), skip_bad_images=True).finetune.train.paths
    with refused(path, "no finite numbers", "--skip_bad_images"):
        image_folder.read(path)


def test_many_damaged_images_are_counted(root, refused):
    for i in range(30):
        (root / "train" / "rot" / f"bad{i:02}.jpg").write_bytes(b"bad")
    with refused("30 of its images", "bad00.jpg", "and 25 more"):
        load("folder", str(root))


def test_a_jpeg_with_something_behind_it_is_whole(root, monkeypatch):
    monkeypatch.setattr(image_folder, "_MAX_DECODED", 0)
    with open(root / "train" / "rot" / "0.jpg", "ab") as file:
        file.write(b"\0" * 20 + b"camera")
    assert len(load("folder", str(root)).finetune.train) == 12


@pytest.mark.parametrize("max_decoded", [image_folder._MAX_DECODED, 0], ids=["decoded", "glanced at"])
def test_a_pipe_is_not_waited_for(root, refused, monkeypatch, max_decoded):
    monkeypatch.setattr(image_folder, "_MAX_DECODED", max_decoded)
    os.mkfifo(root / "train" / "rot" / "pipe.jpg")
    (root / "train" / "rot" / "gone.jpg").symlink_to("nowhere")
    with refused("2 of its images cannot be read", "pipe.jpg (not a file)", "gone.jpg (No such file"):
        load("folder", str(root))


def test_a_damaged_tiff_is_one_line(root, refused, capfd):
    path = root / "train" / "rot" / "empty.tif"
    _image((0, 0, 0)).save(path, compression="tiff_lzw")
    data = path.read_bytes()
    directory = int.from_bytes(data[4:8], "little")  # behind the pixels
    path.write_bytes(data[:8] + bytes(directory - 8) + data[directory:])
    with refused("empty.tif (damaged)"):  # Pillow says -2, and libtiff some lines
        load("folder", str(root))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("term", "shown"), [("xterm", True), ("dumb", False)])
def test_a_bar_is_for_terminals_that_can_draw_it(root, capfd, monkeypatch, term, shown):
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    load("folder", root)
    assert ("checking images" in capfd.readouterr().err) == shown


def test_a_bomb_is_damaged(root, monkeypatch, refused):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    with refused("cannot be read", "bomb"):
        load("folder", str(root))


# Folders that are none.

def test_names_with_control_characters_are_printed_as_text(root, capsys):
    (root / "train" / "rot" / "\x1b[31m\u2028.png").write_bytes(b"no image")
    (root / "train" / "\x9b1m").mkdir()
    _image((0, 0, 0)).save(root / "train" / "\x9b1m" / "0.png")
    load("folder", str(root), skip_bad_images=True)
    out = capsys.readouterr().out
    assert out.count("\n") == 2 and out.replace("\n", "").isprintable()
    assert "rot/?[31m" in out and "no image of ?1m" in out


def test_no_folder_is_given(refused):
    with refused("--data_dir", "train/<class>/"):
        load("folder")


@pytest.mark.parametrize("missing", ["train", "val"])
def test_a_part_is_missing(root, refused, missing):
    (root / missing).rename(root / "elsewhere")
    with refused(root / missing, "No such file", "DIR/train/<class>/"):
        load("folder", str(root))


def test_where_images_are_set_apart_there_need_be_no_val(root):
    """The classes may then lie in the folder itself."""
    for path in (root / "val").rglob("*.*"):
        path.unlink()
    for name in CLASSES:
        (root / "val" / name).rmdir()
    (root / "val").rmdir()
    before = load("folder", str(root), untested=True)
    assert (len(before.finetune.train), len(before.finetune.test), before.finetune.classes) == (12, 0, CLASSES)
    print_of = fingerprint(before)
    assert is_fingerprint(print_of)
    for name in CLASSES:
        (root / "train" / name).rename(root / name)
    (root / "train").rmdir()
    after = load("folder", str(root), untested=True)
    assert difference(print_of, fingerprint(after)) is None
    assert after.finetune.name == "images"
    (root / "rot" / "0.jpg").write_bytes(b"bad")
    for path in (root / "grün").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=f"{root}: 1 of its images cannot be read: rot/0.jpg"):
        load("folder", str(root), untested=True)
    with pytest.raises(UserError, match=f"{root / 'grün'}: holds no image"):
        load("folder", str(root), skip_bad_images=True, untested=True)


def test_a_val_that_is_there_is_tested_on(root):
    assert len(load("folder", str(root), untested=True).finetune.test) == 6


def test_images_without_class_folders(tmp_path, refused):
    (tmp_path / "train").mkdir()
    _image(RED).save(tmp_path / "train" / "0.jpg")
    with refused(tmp_path / "train", "0 class folders", "two"):
        load("folder", str(tmp_path))


def test_a_class_that_was_never_trained(root, refused):
    (root / "val" / "gelb").mkdir()
    with refused(root / "val" / "gelb", "no class", "blau, grün, rot"):
        load("folder", str(root))


def test_a_class_whose_name_is_not_utf8(root, refused):
    os.rename(root / "train" / "rot", os.fsencode(root / "train") + b"/caf\xe9")
    with refused(root / "train", r"'caf\udce9'", "UTF-8"):
        load("folder", str(root))


@pytest.mark.parametrize("skip", [False, True])
def test_a_class_without_images(root, refused, skip):
    for path in (root / "train" / "rot").iterdir():
        path.write_bytes(b"bad") if skip else path.unlink()
    with refused(root / "train" / "rot", "no image", ".webp"):
        load("folder", str(root), skip_bad_images=skip)


# The pipeline.

def test_batches_are_square_and_the_same_for_any_workers(root):
    _image(RED, (1, 1)).save(root / "train" / "rot" / "pixel.png")
    pair = load("folder", str(root))
    recipe = Recipe(data="folder", variant="tiny", crop_scale_min=0.1, crop_padding=0, batch_size=5,
                    augment="randaugment", mixup=0.2)
    found = []
    for workers in (0, 2):
        line = pipeline.build(pair.finetune.train, pair.finetune.test, pair, recipe, True, workers,
                              config=recipe.model(3, 48))
        with line(mode="train", epoch=2) as loader:
            found.append([batch["x"].numpy().copy() for batch in loader])
    assert [x.shape for x in found[0]] == [(5, 3, 48, 48), (5, 3, 48, 48), (3, 3, 48, 48)]
    assert [x.tobytes() for x in found[0]] == [x.tobytes() for x in found[1]]


def test_without_random_crops_training_sees_the_middle(root):
    pair = load("folder", str(root))
    recipe = Recipe(data="folder", variant="tiny", crop_padding=0, cutout_size=0, hflip_prob=0.0, batch_size=12)
    line = pipeline.build(pair.finetune.train, pair.finetune.test, pair, recipe, False, config=recipe.model(3, 32))
    with line(mode="train", epoch=1) as loader:
        x = next(iter(loader))["x"].numpy()
    shown = np.round((x * IMAGENET[1] + IMAGENET[0]) * 255).mean(axis=(1, 2))
    assert x.shape == (12, 32, 32, 3)
    assert {CLASSES[np.abs(np.array([COLOURS[name] for name in CLASSES]) - mean).sum(axis=1).argmin()]
            for mean in shown} == set(CLASSES)


# A run.

OPTIONS = {"data": "folder", "variant": "tiny", "image_size": 32, "batch_size": 8, "finetune_epochs": 6,
           "crop_padding": 0, "crop_scale_min": 0.5, "cutout_size": 0, "optimizer": "adamw", "learning_rate": 2e-3,
           "label_smoothing": 0.1, "log_steps": 0}


def _run(script, data_dir, model_dir, **options):
    out, folders = io.StringIO(), {"data_dir": str(data_dir), "model_dir": str(model_dir)}
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        results = script.fastestimator_run(**OPTIONS | folders | options)
    return results, out.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on a folder with damaged images in it."""
    import vit_torch
    root = _make(tmp_path_factory.mktemp("data") / "colours", train=16, val=8)
    _damage(root)
    target = tmp_path_factory.mktemp("run")
    return root, target, *_run(vit_torch, root, target, skip_bad_images=True, tensorboard=str(target / "events"))


def test_a_folder_is_learned(trained):
    *_, results, _ = trained
    assert set(results["stages"]) == {"scratch"}
    assert results["stages"]["scratch"]["data"] == "colours"
    assert results["stages"]["scratch"]["epochs"][-1]["accuracy"] > 0.9
    assert results["stages"]["scratch"]["epochs"][-1]["top5"] == 1.0
    assert results["spec"]["num_classes"] == 3 and results["spec"]["image_size"] == 32


def test_label_map_and_recipe_are_saved(trained):
    _, target, *_ = trained
    assert json.loads((target / "classes.json").read_text()) == list(CLASSES)
    weights, config = canonical.load(target / "scratch.safetensors")
    assert (config.num_classes, weights["head.weight"].shape) == (3, (3, 64))
    assert "crop_scale_min: 0.5\n" in (target / "recipe.yaml").read_text()


def test_every_epoch_is_a_line_in_the_log_and_in_the_history(trained):
    _, target, results, out = trained
    epochs = results["stages"]["scratch"]["epochs"]
    lines = [line for line in out.splitlines() if line.startswith("scratch: epoch ")]
    assert len(lines) == len(epochs) == 6
    for line, epoch in zip(lines, epochs, strict=True):
        assert f"top-1 {epoch['accuracy']:.2%}" in line and f"rate {epoch['learning_rate']:.2e}" in line
    with open(target / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["learning_rate"]) for row in rows] == [2e-3] * 6
    assert [float(row["top5"]) for row in rows] == [1.0] * 6
    with open(target / "times.csv", newline="") as file:
        assert all(float(row["step_seconds"]) > 0 for row in csv.DictReader(file))
    assert len(list((target / "events" / "scratch").iterdir())) == 1


def test_predictions_are_an_image_with_right_ones_in_blue(trained):
    _, target, *_ = trained
    pixels = cv2.imread(str(target / "predictions.png"))[..., ::-1].astype(int)
    assert pixels.shape[0] > 600 and pixels.shape[1] > 1000
    blue = (abs(pixels - [int(predictions.RIGHT[i:i + 2], 16) for i in (1, 3, 5)]) < 4).all(axis=-1)
    assert blue.sum() > 200


def _always_the_second(trained, classes):
    """A stage of a model that takes everything for class 1, with two images of class 0 and one of class 1."""
    pair = load("folder", str(trained[0]), skip_bad_images=True)
    test = pair.finetune.test.take(np.array([0, 1, 8]))
    dataset = type(pair.finetune)("some", classes, pair.finetune.train, test)
    job = Job(load_script("torch"), Recipe(data="folder", variant="tiny", image_size=32), pair, trained[1])
    stage = Stage(job, "finetune", dataset, 1, job.config(dataset))
    stage.weights = {name: value * 0 for name, value in parameters.initial(stage.config, 0).items()}
    stage.weights["head.bias"][1] = 1
    return stage


@pytest.mark.plots
def test_titles_are_blue_when_right_and_red_when_wrong(trained, monkeypatch):
    from matplotlib.axes import Axes
    titles = []
    monkeypatch.setattr(Axes, "set_title", lambda axis, text, color, **_: titles.append((text, color)))
    predictions.draw(_always_the_second(trained, CLASSES), trained[1] / "other.png")
    wrong, right = ("grün\n(is blau)", predictions.WRONG), ("grün", predictions.RIGHT)
    assert titles == [wrong, wrong, right]


@pytest.mark.plots
@pytest.mark.parametrize(("name", "noted"), [("\U00012000", True), ("gröβer", False)])
def test_letters_that_no_font_has_are_said_in_one_line(trained, capsys, name, noted):
    """A sign of cuneiform is in none of the fonts that are asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predictions.draw(_always_the_second(trained, ("blau", name, "rot")), trained[1] / "other.png")
    out = capsys.readouterr().out
    assert (out.count("other.png: no installed font has") == 1) == noted


@pytest.mark.plots
@pytest.mark.parametrize(("name", "noted"), [("\U00012000", True), ("$x^$", False)])
def test_curves_have_the_folders_name_as_it_stands(trained, capsys, name, noted):
    """"$x^$" is a formula to matplotlib, with an error in it."""
    stage = _always_the_second(trained, CLASSES)
    stage.dataset = type(stage.dataset)(name, CLASSES, stage.dataset.train, stage.dataset.test)
    stage.history.epochs.append({"epoch": 1, "train_loss": 2.0, "eval_loss": 1.0, "accuracy": 0.5})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results.plot([stage], trained[1] / "other.png")
    out = capsys.readouterr().out
    assert (out.count("other.png: no installed font has") == 1) == noted


def test_a_folder_is_finetuned_from_a_file(trained, tmp_path):
    """With the encoder frozen or not, from weights of another head, in a stage that is called finetune."""
    import vit_torch
    config = VARIANTS["tiny"].replace(num_classes=7)
    canonical.save(tmp_path / "w.safetensors", parameters.initial(config, 3), config)
    results, out = _run(vit_torch, trained[0], tmp_path / "run", pretrained=str(tmp_path / "w.safetensors"),
                        finetune_epochs=1, train_steps_per_epoch=2, skip_bad_images=True, compare_scratch=True)
    assert set(results["stages"]) == {"finetune", "scratch"}
    assert "encoder copied" in out
    assert (tmp_path / "run" / "finetuned.safetensors").is_file()


@pytest.mark.plots
@pytest.mark.full
@pytest.mark.parametrize("backend", [pytest.param("vit_tf", marks=pytest.mark.backend("tf")),
                                     pytest.param("vit_ms", marks=pytest.mark.backend("ms"))])
def test_other_frameworks_train_on_a_folder(trained, tmp_path, backend):
    import importlib
    script = importlib.import_module(backend)
    results, _ = _run(script, trained[0], tmp_path / "run", finetune_epochs=1, train_steps_per_epoch=2,
                      skip_bad_images=True, mixup=0.4, cutmix=1.0)
    [epoch] = results["stages"]["scratch"]["epochs"]
    assert epoch["top5"] == 1.0 and epoch["train_loss"] > 0.5
    assert (tmp_path / "run" / "predictions.png").stat().st_size > 10_000


@pytest.mark.parametrize(("options", "fragments"), [
    ({"image_size": 33}, ("image_size 33", "patch_size 8")), ({"data_dir": None}, ("--data_dir", )),
    ({"freeze_encoder": True}, ("freeze_encoder", "--pretrained")), ({}, ("cannot be read", "--skip_bad_images"))])
def test_bad_options_write_nothing(trained, tmp_path, refused, options, fragments):
    import vit_torch
    skip = {"skip_bad_images": True} if options else {}
    with refused(*fragments):
        vit_torch.fastestimator_run(**OPTIONS | {"data_dir": str(trained[0]), "model_dir": str(tmp_path / "run")}
                                    | skip | options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_goes_bad_while_training_is_one_line(root, tmp_path, capfd, monkeypatch, workers):
    import vit_torch
    from vit.cli import train as cli
    victim = min((root / "train" / "rot").iterdir())

    def load_and_spoil(*arguments, **options):
        pair = load(*arguments, **options)
        victim.write_bytes(victim.read_bytes()[:40])
        return pair

    monkeypatch.setattr("vit.training.run.load", load_and_spoil)
    with pytest.raises(SystemExit) as ended:
        cli.main(vit_torch, [
            "--data", "folder", "--data_dir", str(root), "--variant", "tiny", "--batch_size", "4", "--finetune_epochs",
            "1", "--log_steps", "0", "--num_workers", str(workers), "--model_dir", str(tmp_path / "run"),
            "--image_size", "32"])
    assert ended.value.code == 2
    err = capfd.readouterr().err
    [line] = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in err and str(victim) in line and "--skip_bad_images" in line
