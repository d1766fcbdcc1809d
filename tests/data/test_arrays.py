"""Images and labels from Python, from Hugging Face's datasets and from .npz files."""
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.data import hugging_face as hf
from vit.data import arrays, load
from vit.data.arrays import EachImage
from vit.data.fingerprint import difference, fingerprint, is_fingerprint
from vit.data.sets import IMAGENET, Images

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
LABELS = np.arange(12) % 3
NAMES = ("a", "b", "c")


def _load(train=(PIXELS, LABELS), test=None):
    return load("arrays", given=(train, test), untested=True)


def _same(images, labels, pair):
    found = pair.finetune.train
    assert type(found) is Images and (found.images == images).all() and found.labels.tolist() == list(labels)


# From Python.

def test_arrays_are_a_set_to_finetune_on():
    pair = _load(test=(PIXELS[:4], LABELS[:4]))
    assert (pair.pretrain, pair.finetune.name, pair.finetune.classes) == (None, "arrays", ("0", "1", "2"))
    assert (pair.mean, pair.std) == IMAGENET and pair.hflip
    _same(PIXELS, LABELS, pair)
    assert pair.finetune.train.labels.dtype == np.int64
    assert len(pair.finetune.test) == 4 and len(_load().finetune.test) == 0


@pytest.mark.parametrize("given", [
    [PIXELS, LABELS.tolist()], (PIXELS, LABELS[:, None].astype(np.uint8)), {"images": PIXELS, "labels": LABELS},
    (list(PIXELS), LABELS), ([Image.fromarray(one) for one in PIXELS], LABELS),
    (PIXELS[:, ::-1][:, ::-1], LABELS)], ids=range(6))
def test_the_same_images_may_come_in_many_ways(given):
    _same(PIXELS, LABELS, _load(given))
    assert difference(fingerprint(_load()), fingerprint(_load(given))) is None


def test_files_are_images_too(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(12)]
    for path, pixels in zip(paths, PIXELS, strict=True):
        Image.fromarray(pixels).save(path)
    _same(PIXELS, LABELS, _load((paths, LABELS)))


@pytest.mark.parametrize("grey", [PIXELS[..., 0], PIXELS[..., :1]])
def test_grey_is_a_colour(grey):
    _same(np.repeat(PIXELS[..., :1], 3, axis=3), LABELS, _load((grey, LABELS)))


def test_classes_have_their_names():
    for given in ({"images": PIXELS, "labels": LABELS, "classes": NAMES}, (PIXELS, [NAMES[i] for i in LABELS])):
        pair = _load(given, (PIXELS, [NAMES[i] for i in LABELS]))
        assert pair.finetune.classes == NAMES
        assert pair.finetune.train.labels.tolist() == pair.finetune.test.labels.tolist() == LABELS.tolist()
    assert _load(test={"images": PIXELS, "labels": LABELS, "classes": NAMES}).finetune.classes == NAMES


@pytest.mark.parametrize("images", [PIXELS[:, :6], [one[:, :4 + i] for i, one in enumerate(PIXELS[:4])] * 3],
                         ids=["not square", "of many sizes"])
def test_images_of_other_shapes_are_read_one_by_one(images):
    pair = _load((images, LABELS))
    found = pair.finetune.train
    assert type(found) is EachImage and found.image_size is None and len(found) == 12
    assert all((found[i] == images[i]).all() for i in range(12))
    part = found.take(np.array([7, 2]))
    assert (part[0] == images[7]).all() and part.labels.tolist() == [1, 2]
    print_of = fingerprint(pair)
    assert is_fingerprint(print_of) and difference(print_of, fingerprint(_load((images, LABELS)))) is None
    other = [*images[:5], images[5] ^ 1, *images[6:]]
    assert "other contents" in difference(print_of, fingerprint(_load((other, LABELS))))
    assert "had 4 and has 3" in difference(print_of, fingerprint(_load((images, [1, *LABELS[1:]]))))


def test_many_large_images_are_not_held_in_memory(monkeypatch):
    monkeypatch.setattr(arrays, "_MOST_BYTES", 12 * 192 - 1)
    assert type(_load((list(PIXELS), LABELS)).finetune.train) is EachImage


@pytest.mark.parametrize(("given", "fragments"), [
    (PIXELS, ("(images, labels)", "array, uint8 [12, 8, 8, 3]")), ("digits", ("'digits'",)), ({}, ("not dict",)),
    ({"images": PIXELS, "labels": LABELS, "more": 1}, ("not dict",)),
    ((PIXELS, LABELS[:3]), ("12 images and 3 labels",)), ((PIXELS, None), ("labels are",)),
    ((3, LABELS), ("no images",)),
    ((PIXELS, LABELS + 0.5), ("float64 [12]",)), ((PIXELS, LABELS + 1), ("0, 1, 2 and so on", "1, 2, 3")),
    ((PIXELS, LABELS - 1), ("0, 1, 2 and so on", "-1, 0, 1")), ((PIXELS, LABELS * 0), ("1 class,", "two")),
    ((PIXELS, [[0, 1], [0]] * 6), ("labels are",)), ((PIXELS, np.zeros((12, 3), int)), ("int64 [12, 3]",)),
    ((PIXELS / 255, LABELS), ("float64", "multiply those of 0 to 1 by 255")),
    ((PIXELS.astype(np.int16), LABELS), ("int16", "astype")),
    ((PIXELS.transpose(0, 3, 1, 2), LABELS), ("channels come last",)), ((PIXELS[..., :2], LABELS), ("[12, 8, 8, 2]",)),
    ((PIXELS[:, :0], LABELS), ("[12, 0, 8, 3]",)), ((PIXELS[:0], LABELS[:0]), ("is empty",)),
    ((["none.png"] * 12, LABELS), ("image 0", "none.png: No such file")), (([None] * 12, LABELS), ("NoneType",)),
    ({"images": PIXELS, "labels": LABELS, "classes": ["a", "b"]}, ("0 to 1, found 0 to 2",)),
    ({"images": PIXELS, "labels": LABELS, "classes": ["a", "b", "a"]}, ("two of its classes",))], ids=range(23))
def test_what_is_no_set_is_one_line(given, fragments, refused):
    with refused("train_dataset", *fragments):
        _load(given)


@pytest.mark.parametrize(("test", "fragments"), [
    ((PIXELS, LABELS + 1), ("eval_dataset", "0 to 2, found 1 to 3")),
    ((PIXELS, list("abcabcabcabd")), ("eval_dataset",)),
    ({"images": PIXELS, "labels": LABELS, "classes": "abd"}, ("other classes", "a, b, c", "a, b, d"))])
def test_what_is_tested_on_has_the_same_classes(test, fragments, refused):
    with refused(*fragments):
        _load({"images": PIXELS, "labels": LABELS, "classes": NAMES}, test)


def test_there_must_be_something_to_evaluate_on(refused):
    with refused("no images to evaluate on", "eval_dataset", "val_fraction"):
        load("arrays", given=((PIXELS, LABELS), None))


def test_a_class_without_images_is_said(capsys):
    _load({"images": PIXELS, "labels": LABELS, "classes": [*NAMES, "d"]})
    assert "train_dataset: no image of d" in capsys.readouterr().out


def test_an_image_that_cannot_be_read_is_one_line_when_it_is_asked_for(tmp_path, refused):
    paths = [tmp_path / f"{index}.png" for index in range(12)]
    for index, path in enumerate(paths):
        Image.fromarray(PIXELS[index][:, :4 + index % 2]).save(path)
    images = _load((paths, LABELS)).finetune.train
    paths[5].write_bytes(b"no image")
    with refused("train_dataset: image 5", "5.png", "not an image"):
        images[5]


# Hugging Face's.

def _rows(label="label", image="image", names=NAMES):
    rows = [{image: Image.fromarray(pixels), label: int(number), "id": index}
            for index, (pixels, number) in enumerate(zip(PIXELS, LABELS, strict=True))]
    return rows, {image: hf.Image(), label: hf.ClassLabel(list(names)), "id": hf.Value()}


@pytest.mark.parametrize("columns", [{}, {"label": "digit"}, {"image": "img", "label": "fine_label"}])
def test_a_dataset_of_hugging_face_is_a_set(columns):
    pair = _load(hf.Dataset(*_rows(**columns), formatted=True), hf.Dataset(*_rows(**columns)))
    _same(PIXELS, LABELS, pair)
    assert pair.finetune.classes == NAMES and len(pair.finetune.test) == 12


def test_of_several_columns_of_labels_one_is_called_so():
    rows, features = _rows("fine_label")
    rows = [row | {"coarse_label": 0} for row in rows]
    pair = _load(hf.Dataset(rows, features | {"coarse_label": hf.ClassLabel(["x"])}))
    assert pair.finetune.classes == NAMES


def test_labels_without_names_are_numbers():
    rows, features = _rows()
    assert _load(hf.Dataset(rows, features | {"label": hf.Value()})).finetune.classes == ("0", "1", "2")


def test_other_images_of_hugging_face_are_read_when_they_are_asked_for():
    rows, features = _rows()
    rows[3]["image"] = Image.fromarray(PIXELS[3][:, :5]).convert("L")
    images = _load(hf.Dataset(rows, features)).finetune.train
    assert type(images) is EachImage and images[3].shape == (8, 5, 3) and (images[4] == PIXELS[4]).all()


@pytest.mark.parametrize(("given", "fragments"), [
    (hf.DatasetDict(train=hf.Dataset(*_rows())), ("several sets (train)", "dataset['train']")),
    (hf.IterableDataset(), ("streamed", "streaming=True")),
    (hf.Dataset(*_rows("a")).select_columns(["image", "id"]), ("image, id", "label", "rename_column")),
    (hf.Dataset(*_rows()).select_columns(["label", "id"]), ("label, id", "image", "rename_column")),
    (hf.Dataset([row | {"label": -1} for row in _rows()[0]], _rows()[1]), ("0 to 2, found -1 to -1",)),
    (hf.Dataset([], _rows()[1]), ("empty",))], ids=range(6))
def test_what_is_no_set_of_hugging_face_is_one_line(given, fragments, refused):
    with refused("train_dataset", *fragments):
        _load(given)


def test_known_classes_are_asked_for(refused):
    images = arrays.labelled((PIXELS, LABELS), NAMES, "the set")
    assert (images.images == PIXELS).all()
    with refused("the set", "a, b, d", "a, b, c"):
        arrays.labelled({"images": PIXELS, "labels": LABELS, "classes": "abd"}, NAMES, "the set")
    with refused("the set", "0 to 1, found 0 to 2"):
        arrays.labelled((PIXELS, LABELS), ("a", "b"), "the set")


# A .npz file.

def _file(path, **arrays_of):
    np.savez_compressed(path, **arrays_of)
    return path


@pytest.mark.parametrize("names", arrays._IN_FILES)
def test_a_file_holds_a_set(tmp_path, names):
    parts = dict(zip(names, (PIXELS, LABELS, PIXELS[:3], LABELS[:3]), strict=True))
    pair = load("arrays", str(_file(tmp_path / "set.npz", **parts, classes=list(NAMES), more=np.zeros(3))))
    _same(PIXELS, LABELS, pair)
    assert pair.finetune.classes == NAMES and len(pair.finetune.test) == 3


def test_a_file_may_have_nothing_to_test_on(tmp_path, refused):
    path = _file(tmp_path / "set.npz", train_images=PIXELS, train_labels=LABELS)
    assert len(load("arrays", path, untested=True).finetune.test) == 0
    with refused("no images to evaluate on"):
        load("arrays", path)


@pytest.mark.parametrize(("content", "fragments"), [
    (None, ("no such file",)), (b"hello", ("not a whole .npz file",)), (b"", ("not a whole .npz file",)),
    ({"train_images": PIXELS}, ("train_labels",)), ({"a": PIXELS}, ("train_images",)),
    ({"train_images": PIXELS, "train_labels": np.array([None] * 12)}, ("not a whole .npz file", "allow_pickle")),
    ({"train_images": PIXELS, "train_labels": LABELS[:2]}, ("12 images and 2 labels",))], ids=range(7))
def test_another_file_is_one_line(tmp_path, content, fragments, refused):
    path = tmp_path / "set.npz"
    if isinstance(content, dict):
        _file(path, **content)
    elif content is not None:
        path.write_bytes(content)
    with refused(*fragments):
        load("arrays", str(path))


def test_a_file_that_claims_to_be_huge_is_refused_before_it_is_read(tmp_path, refused, monkeypatch):
    path = _file(tmp_path / "set.npz", train_images=PIXELS, train_labels=LABELS)
    monkeypatch.setattr(arrays.memory, "available", lambda: 1000)
    monkeypatch.setattr(np, "load", pytest.fail)
    with refused(path, "of memory"):
        load("arrays", str(path))


def test_a_member_whose_header_lies_is_one_line(tmp_path, refused):
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999, 999, 999, 3), }"
    header += " " * (-(10 + len(header) + 1) % 64) + "\n"
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        for name in ("train_images", "train_labels"):
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    with refused("set.npz", "not a whole .npz file"):
        load("arrays", str(tmp_path / "set.npz"))


def test_no_file_is_given(refused):
    with refused("--data_dir", ".npz", "train_dataset"):
        load("arrays")
