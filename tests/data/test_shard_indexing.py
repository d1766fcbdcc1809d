"""The index of shards that others have made: of numbers, names and folders as classes; and what is refused."""
import io
import shutil
import tarfile

import numpy as np
import pytest

from tests.data.test_image_folder import _image
from vit.cli.commands import main
from vit.data import load, shard_indexing, shards

COLOURS = ((30, 60, 200), (200, 40, 30))


def _jpeg(number):
    data = io.BytesIO()
    _image(COLOURS[number % 2], seed=number).save(data, "JPEG")
    return data.getvalue()


def _tar(path, members):
    with tarfile.open(path, "w") as archive:  # pax, with the headers that long names need
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def _numbered(first, count):
    return {f"a/{n:04d}.{ending}": data for n in range(first, first + count)
            for ending, data in (("jpg", _jpeg(n)), ("json", b"{}"), ("cls", b"%d" % (n % 2)))}


@pytest.fixture
def folder(tmp_path):
    """Shards whose classes are numbers."""
    root = tmp_path / "theirs"
    root.mkdir()
    _tar(root / "train-0.tar", _numbered(0, 3))
    _tar(root / "train-1.tar", _numbered(3, 2))
    _tar(root / "validation.tar", _numbered(5, 2))
    return root


def test_classes_are_numbers_or_have_names_in_a_file(folder, tmp_path, capsys):
    assert main(["shards", "index", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder}: 5 images of train in 2 files, 2 images of val in 1 files; 2 classes\n"
    pair = load("folder", str(folder))
    assert (pair.finetune.name, pair.finetune.classes) == ("theirs", ("0", "1"))
    assert pair.finetune.train.labels.tolist() == [0, 1, 0, 1, 0]
    assert [pair.finetune.train.read(n) for n in range(5)] == [_jpeg(n) for n in range(5)]
    assert main(["shards", "check", str(folder)]) == 0
    (folder / shards.INDEX).unlink()
    names = tmp_path / "classes.txt"
    names.write_text("blau\n")
    assert main(["shards", "index", str(folder), "--classes", str(names)]) == 2
    assert "there is an image of class 1, and there are 1 classes" in capsys.readouterr().err
    names.write_text("blau\nrot\n")
    assert main(["shards", "index", str(folder), "--classes", str(names)]) == 0
    assert load("folder", str(folder)).finetune.classes == ("blau", "rot")


@pytest.mark.parametrize("named", ["cls", "folder"])
def test_classes_are_names(tmp_path, named):
    """Some names are longer than a header has room for."""
    for part in ("train", "test"):
        members = {}
        for number in range(4):
            colour = ("blau", "rot")[number % 2]
            key = f"{'deep/' * 30}{colour}/{number}" if named == "folder" else f"{number}"
            members[f"{key}.JPG"] = _jpeg(number)
            if named == "cls":
                members[f"{key}.cls"] = f"{colour}\n".encode()
        _tar(tmp_path / f"{part}.tar", members)
    shard_indexing.write(tmp_path)
    images = load("folder", str(tmp_path)).finetune
    assert images.classes == ("blau", "rot")
    assert images.train.labels.tolist() == [0, 1, 0, 1]
    assert np.array_equal(images.train[1], images.test[1])


@pytest.mark.parametrize(("members", "fragment"), [
    ({"0.jpg": _jpeg(0)}, "0.jpg has no class: neither a member 0.cls nor a folder"),
    ({"0.jpg": _jpeg(0), "0.png": _jpeg(0)}, "0.png is a second image of one key"),
    ({"0.jpg": b"no image", "0.cls": b"0"}, "0.jpg: not an image"),
    ({"0.jpg": _jpeg(0), "0.cls": b"5000"}, "there is an image of class 5000, and there are 3 classes"),
    ({"0.jpg": _jpeg(0), "0.cls": b"\xff"}, "not a whole tar file in webdataset's layout"),
])
def test_samples_that_make_no_sense_are_refused(folder, refused, members, fragment):
    _tar(folder / "train-2.tar", members)
    with refused(str(folder), fragment):
        shard_indexing.write(folder)
    assert not (folder / shards.INDEX).exists()


@pytest.mark.parametrize("size", [0, 300, 1000, 2000, 3072, 5120, 10000])
def test_a_shard_that_is_cut_is_refused(folder, refused, size):
    data = (folder / "train-1.tar").read_bytes()
    (folder / "train-1.tar").write_bytes(data[:size])
    with refused(folder / "train-1.tar", "not a whole tar file"):
        shard_indexing.write(folder)


def test_files_whose_part_is_not_known_are_refused(folder, refused):
    shutil.copy(folder / "train-1.tar", folder / "other.tar")
    with refused(folder / "other.tar", "its name must begin with train, val, test"):
        shard_indexing.write(folder)


def test_a_part_that_is_missing_and_an_index_that_is_there_are_refused(folder, refused):
    shard_indexing.write(folder)
    with refused(f"{folder}: holds shards.json already"):
        shard_indexing.write(folder)
    (folder / shards.INDEX).unlink()
    (folder / "validation.tar").unlink()
    with refused(f"{folder}: holds no file whose name begins with val"):
        shard_indexing.write(folder)
