"""Shards: the batches of the folder that they were made of, read where they are needed; and what is refused."""
import hashlib
import json
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from tests.data.test_image_folder import _make
from vit.cli.commands import main
from vit.data import download, load, sharding, shards
from vit.data.fingerprint import fingerprint
from vit.data.share import Share
from vit.model.config import VARIANTS
from vit.remote import cache, transfer
from vit.remote.address import parse
from vit.training import pipeline
from vit.training.recipe import Recipe


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of 15 and 6 images of three classes, and its shards of 4."""
    root = _make(tmp_path_factory.mktemp("made") / "colours", train=5, val=2)
    sharding.make(root, root.parent / "shards", per_shard=4)
    return root, root.parent / "shards"


@pytest.fixture
def folder(made, tmp_path):
    """Shards that a test may change."""
    return shutil.copytree(made[1], tmp_path / "shards")


def _change(folder, change):
    """Write a folder's index again, changed."""
    index = json.loads((folder / shards.INDEX).read_bytes())
    change(index)
    (folder / shards.INDEX).write_text(json.dumps(index))


# The same set.

def test_images_labels_classes_and_fingerprint_are_the_folders(made):
    was, now = (load("folder", str(path)) for path in made)
    assert fingerprint(was) == fingerprint(now)
    assert (was.finetune.name, was.finetune.classes) == (now.finetune.name, now.finetune.classes)
    for part in ("train", "test"):
        one, other = getattr(was.finetune, part), getattr(now.finetune, part)
        assert one.labels.tolist() == other.labels.tolist()
        assert all(np.array_equal(one[i], other[i]) for i in range(len(one)))
        assert all(one.paths[i].read_bytes() == other.read(i) for i in range(len(one)))


@pytest.mark.parametrize(("share", "num_workers"), [(Share(0, 1), 0), (Share(0, 1), 2), (Share(2, 3), 2)], ids=str)
def test_batches_are_the_folders_to_the_byte(made, share, num_workers):
    recipe = Recipe(data="folder", batch_size=4, image_size=16, crop_padding=0, crop_scale_min=0.3,
                    mixup=0.2, cutmix=1.0, seed=3)
    config = VARIANTS["tiny"].replace(image_size=16, patch_size=8, num_classes=3, dropout=0.1)
    told = []
    for path in made:
        pair = load("folder", str(path))
        line = pipeline.build(pair.finetune.train, pair.finetune.test, pair, recipe, True, num_workers, config=config,
                              share=share)
        for mode, epoch in (("train", 2), ("eval", 1)):
            with line(mode=mode, epoch=epoch) as loader:
                told.append([{key: value.numpy().tobytes() for key, value in batch.items()} for batch in loader])
    assert [len(batches) for batches in told] == [4, 2, 4, 2]
    assert told[:2] == told[2:]


def test_the_same_images_give_the_same_bytes(made, tmp_path):
    sharding.make(made[0], tmp_path / "again", per_shard=4)
    assert [path.read_bytes() for path in sorted((tmp_path / "again").iterdir())] == [
        path.read_bytes() for path in sorted(made[1].iterdir())]


def test_the_layout_is_webdatasets(made):
    """Two members for each image, of one key, side by side; and the label as a number."""
    dataset = load("folder", str(made[0])).finetune
    found = []
    for path in sorted(made[1].glob("train-*.tar")):
        with tarfile.open(path) as archive:
            members = archive.getmembers()
            for image, label in zip(members[::2], members[1::2], strict=True):
                key, ending = image.name.split(".")
                assert label.name == f"{key}.cls"
                assert ending in ("jpg", "png", "webp", "jpeg")
                found.append((archive.extractfile(image).read(), int(archive.extractfile(label).read())))
    assert found == [(path.read_bytes(), label) for path, label in
                     zip(dataset.train.paths, dataset.train.labels.tolist(), strict=True)]


def test_names_that_are_no_utf8_are_the_folders_as_well(made, tmp_path):
    root = shutil.copytree(made[0], tmp_path / "odd")
    (root / "train" / "rot" / "0.jpg").rename(root / "train" / "rot" / b"\xff\xe4.jpg".decode(errors="surrogateescape"))
    sharding.make(root, tmp_path / "shards", per_shard=100)
    assert fingerprint(load("folder", str(root))) == fingerprint(load("folder", str(tmp_path / "shards")))


# What is read, and held.

def test_only_the_shards_of_the_images_that_are_asked_for_are_read(made, monkeypatch):
    opened, real = [], shards.LocalShards.path
    monkeypatch.setattr(shards.LocalShards, "path", lambda place, *one: opened.append(one[0]) or real(place, *one))
    images = load("folder", str(made[1])).finetune.train
    part = images.take(np.array([9, 0]))
    assert opened == []
    assert np.array_equal(part[0], images[9])
    assert opened == ["train-000002.tar"] * 2


def test_an_image_takes_28_bytes_of_memory(made):
    images = load("folder", str(made[1])).finetune.train
    columns = (images.labels, images.places, images.offsets, images.sizes, images.crc32)
    assert sum(column.nbytes for column in columns) == 28 * len(images)


PASS = """
import sys
from vit import memory
from vit.data import load
images = load("folder", sys.argv[1]).finetune.train
before = memory.peak()
for index in range(len(images)):
    images[index]
print((memory.peak() - before) / 1e6)
"""


def test_memory_does_not_grow_with_the_set(tmp_path, run_python):
    """80 MB of images, in one shard: a pass over them takes what one image takes, 2.5 MB, a few times."""
    for part, count in (("train", 16), ("val", 1)):
        for name in "ab":
            (tmp_path / "set" / part / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (1000, 833), (i, 0, 0)).save(tmp_path / "set" / part / name / f"{i}.bmp")
    sharding.make(tmp_path / "set", tmp_path / "shards", per_shard=1000)
    assert (tmp_path / "shards" / "train-000000.tar").stat().st_size > 79e6
    done = run_python("-c", PASS, tmp_path / "shards")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 20


# At an address.

@pytest.fixture(params=["s3", "web"])
def address(request, made, s3, web):
    """Where the shards are on a server."""
    for path in made[1].iterdir():
        if request.param == "s3":
            transfer.put(path, parse("s3://bucket/set") / path.name)
        else:
            shutil.copy(path, web[0])
    return "s3://bucket/set" if request.param == "s3" else web[1]


def _read():
    """The names of the shards that are in the cache, by their sums."""
    return {path.name for path in (cache.folder() / "sha256").rglob("*") if path.is_file()
            and not path.name.startswith(".")}


def test_from_an_address_the_set_is_the_same_and_shards_are_read_when_they_are_needed(made, address):
    was, now = load("folder", str(made[0])), load("folder", address)
    assert fingerprint(was) == fingerprint(now)
    assert _read() == set()
    images = now.finetune.train
    assert np.array_equal(images[9], was.finetune.train[9])
    assert _read() == {download.sha256(made[1] / "train-000002.tar")}
    assert all(np.array_equal(images[i], was.finetune.train[i]) for i in range(len(images)))
    assert len(_read()) == 4


def test_processes_that_prepare_batches_read_from_an_address_as_well(made, address):
    recipe = Recipe(data="folder", batch_size=4, image_size=16, crop_padding=0)
    told = []
    for place in (str(made[0]), address):
        pair = load("folder", place)
        pair.finetune.train[0]  # a server that was asked before the processes are forked
        line = pipeline.build(pair.finetune.train, pair.finetune.test, pair, recipe, True, 2,
                              config=VARIANTS["tiny"].replace(image_size=16, num_classes=3))
        with line(mode="train", epoch=1) as loader:
            told.append([batch["x"].numpy().tobytes() for batch in loader])
    assert told[0] == told[1]


def test_a_shard_of_other_bytes_is_refused_when_it_is_read(made, s3, tmp_path, refused):
    for path in made[1].iterdir():
        transfer.put(path, parse("s3://bucket/set") / path.name)
    data = bytearray((made[1] / "train-000001.tar").read_bytes())
    data[700] ^= 1
    (tmp_path / "other").write_bytes(data)
    transfer.put(tmp_path / "other", parse("s3://bucket/set/train-000001.tar"))
    images = load("folder", "s3://bucket/set").finetune.train
    images[0]
    with refused("s3://bucket/set/train-000001.tar: its sha256 is not what it should be"):
        images[5]


def test_where_the_server_ends_it_is_one_line_and_what_was_read_is_there(address, s3, refused):
    images = load("folder", address).finetune.train
    images[0]
    s3.shut()
    images[1]  # of the same shard
    if address.startswith("s3"):
        with refused("s3://bucket/set/train-000001.tar: cannot be reached"):
            images[5]
        s3.open()
    images[5]


def test_other_sets_are_not_read_from_an_address(refused):
    with refused("data 'cifar' is read from a local data_dir"):
        load("cifar", "s3://bucket/set")
    with refused("must not hold a name or a password"):
        load("folder", "s3://id:secret@bucket/set")


# What is refused.

@pytest.mark.parametrize(("change", "fragment"), [
    (lambda index: index.pop("classes"), "it must have format, name, classes, parts"),
    (lambda index: index.update(format="vit-shards-9"), "is of format 'vit-shards-9', and this version reads"),
    (lambda index: index.update(classes=["a", "a", "b"]), "classes must be two names at least, each once"),
    (lambda index: index["parts"].pop("val"), "it must have train, val"),
    (lambda index: index["parts"]["val"].update(shards=[]), "val has no images"),
    (lambda index: index["parts"]["train"]["contents"].pop(), "contents are not one for each class"),
    (lambda index: _first(index).update(file="../x.tar"), "is not the name of a .tar file beside it"),
    (lambda index: _first(index).update(file="train-000001.tar"), "it lists a file twice"),
    (lambda index: _first(index).update(size="12"), "its size is no number of bytes"),
    (lambda index: _first(index).update(sha256="12"), "its sha256 is none"),
    (lambda index: _first(index)["labels"].pop(), "labels are not one whole number for each image"),
    (lambda index: _first(index)["labels"].__setitem__(0, 3), "a label is of no class"),
    (lambda index: _first(index)["labels"].__setitem__(0, 0.5), "labels are not one whole number"),
    (lambda index: _first(index)["crc32"].__setitem__(0, 1 << 32), "crc32 are no sums"),
    (lambda index: _first(index)["offsets"].__setitem__(0, 513), "its images lie where they cannot"),
    (lambda index: _first(index)["offsets"].__setitem__(0, 1 << 62), "its images lie where they cannot"),
    (lambda index: _first(index)["sizes"].__setitem__(3, 1 << 20), "its images lie where they cannot"),
    (lambda index: _first(index)["names"].__setitem__(0, 7), "a name is missing"),
    (lambda index: _first(index)["names"].__setitem__(0, "\ud800"), "surrogates not allowed"),
    (lambda index: index["classes"].__setitem__(0, "\udc80"), "surrogates not allowed"),
])
def test_an_index_that_says_what_cannot_be_is_refused(folder, refused, change, fragment):
    _change(folder, change)
    with refused(str(folder / shards.INDEX), fragment):
        load("folder", str(folder))


def _first(index):
    return index["parts"]["train"]["shards"][0]


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"[" * 100_000, b"\xff", b"null"])
def test_what_is_no_index_is_refused(folder, refused, data):
    (folder / shards.INDEX).write_bytes(data)
    with refused(folder / shards.INDEX, "not a whole index of shards", "make it again"):
        load("folder", str(folder))


def test_an_index_that_is_cut_is_refused(folder, refused):
    data = (folder / shards.INDEX).read_bytes()
    (folder / shards.INDEX).write_bytes(data[:-20])
    with refused(folder / shards.INDEX, "not a whole index of shards"):
        load("folder", str(folder))


def test_a_shard_that_is_cut_or_missing_is_refused_at_once(folder, refused):
    path = folder / "val-000001.tar"
    path.write_bytes(path.read_bytes()[:-1])
    with refused(path, "has 10,239 bytes, and by shards.json it has 10,240"):
        load("folder", str(folder))
    path.unlink()
    with refused(path, "No such file or directory", "shards.json lists it"):
        load("folder", str(folder))


def test_an_image_of_other_bytes_is_refused_when_it_is_read(folder, refused, capsys):
    images = load("folder", str(folder)).finetune.train
    path = folder / "train-000001.tar"
    data = bytearray(path.read_bytes())
    data[images.offsets[5] + 700] ^= 1
    path.write_bytes(data)
    images[4]
    with refused(folder, "the image at byte", "of train-000001.tar is not what it was when the shards were made"):
        images[5]
    assert main(["shards", "check", str(folder)]) == 2
    assert "train-000001.tar: its sha256 is not that of shards.json" in capsys.readouterr().err


def test_an_image_that_no_decoder_takes_is_refused(folder, refused):
    """Its sum is right: whoever made the index put it there."""
    path = folder / "train-000000.tar"
    with tarfile.open(path) as archive:
        offset, size = archive.next().offset_data, archive.getmember("000000000.jpg").size
    data = bytearray(path.read_bytes())
    data[offset:offset + size] = bytes(size)
    path.write_bytes(data)
    _change(folder, lambda index: _first(index)["crc32"].__setitem__(0, shards.zlib.crc32(bytes(size))))
    with refused("the image at byte 512 of train-000000.tar: not an image"):
        load("folder", str(folder)).finetune.train[0]


# The command.

def test_the_command_makes_and_checks(made, tmp_path, capsys):
    out = tmp_path / "out"
    line = f"{out}: 15 images of train in 3 files, 6 images of val in 1 files; 3 classes\n"
    assert main(["shards", "make", str(made[0]), str(out), "--per_shard", "6"]) == 0
    assert capsys.readouterr().out == line
    assert main(["shards", "check", str(out)]) == 0
    assert capsys.readouterr().out == line
    digest = json.loads((out / "shards.json").read_bytes())["parts"]["val"]["shards"][0]["sha256"]
    assert digest == hashlib.sha256((out / "val-000000.tar").read_bytes()).hexdigest()


@pytest.mark.parametrize(("arguments", "fragment"), [
    (("{images}", "{out}", "--per_shard", "0"), "--per_shard must be at least 1, not 0"),
    (("{images}", "{shards}"), "holds shards.json, of other shards"),
    (("{images}", "{images}/train/rot/0.jpg/x"), "no shards were made"),
    (("{out}", "{out}2"), "cannot be read"),
])
def test_the_command_refuses_in_one_line(made, tmp_path, capsys, arguments, fragment):
    places = {"images": made[0], "shards": made[1], "out": tmp_path / "out"}
    assert main(["shards", "make", *(text.format(**places) for text in arguments)]) == 2
    error = capsys.readouterr().err
    assert fragment in error
    assert error.count("\n") == 1


def test_bad_images_are_left_out_when_shards_are_made_and_never_later(made, tmp_path, refused, capsys):
    root = shutil.copytree(made[0], tmp_path / "images")
    (root / "train" / "rot" / "0.jpg").write_bytes(b"no image")
    with refused("1 of its images cannot be read", "rot/0.jpg"):
        sharding.make(root, tmp_path / "out", per_shard=4)
    sharding.make(root, tmp_path / "out", per_shard=4, skip_bad_images=True)
    capsys.readouterr()
    pair = load("folder", str(tmp_path / "out"), skip_bad_images=True)
    assert len(pair.finetune.train) == 14
    assert "skip_bad_images is ignored: shards hold only images that could be read" in capsys.readouterr().out
