"""The fingerprint of a pair of sets: the same for the same images, and what differs is named."""
import copy
import dataclasses
import json
import os
import shutil

import pytest

from tests.data.test_image_folder import _image, _make
from vit.data import file_hashes, load
from vit.data.fingerprint import difference, fingerprint, is_fingerprint
from vit.data.sets import Images


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return _make(tmp_path_factory.mktemp("made") / "colours", train=6, val=2)


@pytest.fixture
def root(made, tmp_path):
    """A folder of images that a test may change."""
    return shutil.copytree(made, tmp_path / "colours")


def _of(root):
    return fingerprint(load("folder", str(root)))


def _changed(pair, part="finetune", **changes):
    return dataclasses.replace(pair, **{part: dataclasses.replace(getattr(pair, part), **changes)})


def test_it_is_plain_and_the_same_for_the_same_images(digits, root):
    for pair in (digits, load("folder", str(root))):
        found = fingerprint(pair)
        assert json.loads(json.dumps(found)) == found
        assert is_fingerprint(found)
        assert difference(found, fingerprint(pair)) is None
    assert found["pretrain"] is None and found["finetune"]["classes"] == ["blau", "grün", "rot"]
    assert found["finetune"]["train"]["counts"] == [6, 6, 6]


def test_where_a_folder_is_and_what_it_is_called_makes_no_difference(root):
    before = _of(root)
    for path in root.rglob("*.*"):
        os.utime(path, (0, 0))
    assert difference(before, _of(root.rename(root.parent / "moved"))) is None


def test_a_renamed_class_is_shown_with_the_labels_that_it_moves(root):
    before = _of(root)
    for part in ("train", "val"):
        (root / part / "blau").rename(root / part / "zblau")
    line = difference(before, _of(root))
    assert line == ("the set to finetune on: class 'blau' is gone, class 'zblau' is new, label 0 was 'blau' and is "
                    "'grün', label 1 was 'grün' and is 'rot', label 2 was 'rot' and is 'zblau'")


def test_classes_that_exchange_their_names_are_shown(root):
    """Their images and their counts stay, and every label means another class."""
    before = _of(root)
    for part in ("train", "val"):
        (root / part / "blau").rename(root / part / "x")
        (root / part / "rot").rename(root / part / "blau")
        (root / part / "x").rename(root / part / "rot")
    assert "files of other sizes in 'blau', 'rot'" in difference(before, _of(root))


def test_classes_in_another_order_are_shown(digits):
    names = digits.finetune.classes
    line = difference(fingerprint(digits), fingerprint(_changed(digits, classes=(names[1], names[0], *names[2:]))))
    assert line == "the set to finetune on: label 0 was '0' and is '1', label 1 was '1' and is '0'"


def test_a_class_that_was_added_is_shown(root):
    before = _of(root)
    (root / "train" / "weiß").mkdir()
    _image((250, 250, 250)).save(root / "train" / "weiß" / "0.png")
    assert difference(before, _of(root)) == "the set to finetune on: class 'weiß' is new"


@pytest.mark.parametrize(("part", "title"), [("train", "training"), ("val", "test")])
def test_an_image_that_was_added_or_removed_is_counted(root, part, title):
    before = _of(root)
    images = 6 if part == "train" else 2
    (root / part / "grün" / "0.jpg").unlink()
    assert difference(before, _of(root)) == (
        f"the set to finetune on: {title} images: 'grün' had {images} and has {images - 1}")


def test_a_renamed_file_is_noticed(root):
    """Files come in the order of their names, and so do the images."""
    before = _of(root)
    (root / "train" / "rot" / "0.jpg").rename(root / "train" / "rot" / "9.jpg")
    assert difference(before, _of(root)) == "the set to finetune on: training images: files of other names in 'rot'"


def test_a_file_of_another_size_is_noticed(root):
    before = _of(root)
    with open(root / "val" / "rot" / "0.jpg", "ab") as file:
        file.write(b"\0")
    assert difference(before, _of(root)) == "the set to finetune on: test images: files of other sizes in 'rot'"


def test_a_file_of_the_same_size_is_noticed_if_it_is_in_the_sample(root, monkeypatch):
    pair = load("folder", str(root))
    before = fingerprint(pair)
    _flip(root / "train" / "rot" / "0.jpg")  # the first of each class is always in it
    assert difference(before, fingerprint(pair)) == (
        "the set to finetune on: training images: files of other contents in 'rot'")
    _flip(root / "train" / "rot" / "0.jpg")
    _flip(root / "train" / "blau" / "2.webp")
    assert "'blau'" in difference(before, fingerprint(pair))
    monkeypatch.setattr(file_hashes, "_SAMPLED_FILES", 1)
    few = fingerprint(pair)
    _flip(root / "train" / "rot" / "2.webp")
    assert difference(few, fingerprint(pair)) is None


def test_classes_that_exchange_files_of_the_same_names_and_sizes_are_noticed(tmp_path):
    """There are more of them than the sample has files."""
    for part in ("train", "val"):
        for label in range(70):
            (tmp_path / part / f"{label:02}").mkdir(parents=True)
            _image((label, label, label), (4, 4)).save(tmp_path / part / f"{label:02}" / "0.bmp")
    before = _of(tmp_path)
    for part in ("train", "val"):
        (tmp_path / part / "68").rename(tmp_path / part / "x")
        (tmp_path / part / "69").rename(tmp_path / part / "68")
        (tmp_path / part / "x").rename(tmp_path / part / "69")
    assert "files of other contents in '68', '69'" in difference(before, _of(tmp_path))


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_no_more_than_the_sample_is_read(root, monkeypatch):
    opened, before = [], open
    monkeypatch.setattr(file_hashes, "_SAMPLED_FILES", 7)
    pair = load("folder", str(root))

    def count(path, *arguments):
        opened.append(path)
        return before(path, *arguments)

    monkeypatch.setattr("builtins.open", count)
    fingerprint(pair)
    assert len(opened) == 3 * 2 + 3 * 2


def test_a_file_that_vanished_is_one_line(root, refused):
    pair = load("folder", str(root))
    (root / "train" / "rot" / "3.JPEG").unlink()
    with refused(root / "train" / "rot" / "3.JPEG", "cannot be read"):
        fingerprint(pair)


@pytest.mark.parametrize("where", [0, -1, 123_456])
def test_a_changed_pixel_is_noticed_in_sets_that_are_in_memory(digits, where):
    images = digits.finetune.test.images.copy()
    images.reshape(-1)[where] ^= 1
    other = _changed(digits, test=Images(images, digits.finetune.test.labels))
    assert difference(fingerprint(digits), fingerprint(other)) == (
        "the set to finetune on: test images: other contents")


def test_labels_that_are_exchanged_are_noticed(digits):
    train = digits.pretrain.train
    labels = train.labels.copy()
    labels[0], labels[-1] = labels[-1], labels[0]
    other = _changed(digits, "pretrain", train=Images(train.images, labels))
    assert difference(fingerprint(digits), fingerprint(other)) == (
        "the set to pretrain on: training images: other labels")


def test_another_set_is_shown_by_its_name(digits, root):
    ours, folder = fingerprint(digits), _of(root)
    assert difference(ours, folder) == "the set to pretrain on was 'digits100' and is none"
    assert difference(folder, ours) == "the set to pretrain on was none and is 'digits100'"
    alone = fingerprint(dataclasses.replace(digits, pretrain=None))
    assert difference(alone, folder) == "the set to finetune on was 'digits10' and is 'colours'"
    renamed = fingerprint(_changed(digits, name="cifar10"))
    assert difference(ours, renamed) == "the set to finetune on was 'digits10' and is 'cifar10'"


def test_names_that_would_break_a_line_are_shown_in_one(digits):
    names = ("a\nb\x1b[31m", *digits.finetune.classes[1:])
    line = difference(fingerprint(digits), fingerprint(_changed(digits, classes=names)))
    assert line.isprintable() and "a\\nb" in line


def test_a_name_of_any_bytes_is_read(root):
    os.rename(root / "train" / "rot" / "5.png", os.fsencode(root / "train" / "rot") + b"/\xff.png")
    assert json.dumps(_of(root))


@pytest.mark.parametrize("change", [
    lambda value: value.clear(), lambda value: value.update(extra=1), lambda value: value.update(finetune=None),
    lambda value: value.update(pretrain=[]), lambda value: value["finetune"].update(name=1),
    lambda value: value["finetune"].update(classes="abc"), lambda value: value["finetune"].update(classes=[1, 2, 3]),
    lambda value: value["finetune"].pop("test"), lambda value: value["finetune"].update(test=None),
    lambda value: value["finetune"]["train"].update(counts=[1]), lambda value: value["finetune"]["train"].pop("names"),
    lambda value: value["finetune"]["train"].update(counts=[1, 2, True]),
    lambda value: value["finetune"]["train"].update(sizes=[1, 2, 3]),
    lambda value: value["finetune"].update(test={"counts": [1, 2, 3], "images": "", "labels": ""}),
], ids=range(14))
def test_what_has_another_form_is_no_fingerprint(made, change):
    value = _of(made)
    changed = copy.deepcopy(value)
    change(changed)
    assert is_fingerprint(value) and not is_fingerprint(changed)
    assert not is_fingerprint(None) and not is_fingerprint([])


def test_a_thousand_classes_take_little_of_a_checkpoint(root):
    """All hashes are of one length, and so they stand for those of a thousand classes."""
    found = _of(root)["finetune"]
    assert all(len(digest) == 8 for key in ("names", "sizes", "contents") for digest in found["train"][key])
    assert len(json.dumps(found["train"])) < 80 + 3 * (3 * 12 + 4)
