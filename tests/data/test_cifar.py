"""CIFAR's archives, in tiny imitations: what is read from them, and that damage and malice end in one line."""
import io
import os
import pickle
import struct
import tarfile
import zipfile
from typing import ClassVar

import numpy as np
import pytest

from vit.data import load, unpickle

COUNT = 3  # images in each file
FILES = {"cifar": ("cifar-100-python", "cifar-10-batches-py"), "cifair": ("ciFAIR-100", "ciFAIR-10")}
ARCHIVES = {"cifar": ("cifar-100-python.tar.gz", "cifar-10-python.tar.gz"),
            "cifair": ("ciFAIR-100.zip", "ciFAIR-10.zip")}


class _Python2Pickler(pickle._Pickler):
    """Writes byte strings and names as Python 2 did in the official archives: as `str`, which was bytes."""
    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, value):
        value = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)

    dispatch[bytes] = dispatch[str] = save_string


def _python2(content):
    file = io.BytesIO()
    _Python2Pickler(file, protocol=2).dump(content)
    return file.getvalue()


def _python3_bytes(content):
    return pickle.dumps(content, protocol=2)


def _python3_text(content):
    def decoded(value):
        if isinstance(value, list):
            return [decoded(item) for item in value]
        return value.decode() if isinstance(value, bytes) else value

    return pickle.dumps({decoded(key): decoded(value) for key, value in content.items()}, protocol=2)


def _batch(seed, key, classes):
    rng = np.random.default_rng(seed)
    return {b"data": rng.integers(0, 256, (COUNT, 3072), np.uint8), key: rng.integers(0, classes, COUNT).tolist(),
            b"batch_label": b"batch 1", b"filenames": [b"a.png"] * COUNT}


def _members(write=_python2):
    """Both folders' files as {path: bytes}, in the official layout of `cifar`."""
    hundred = {"meta": {b"fine_label_names": [b"class%d" % i for i in range(100)]},
               "train": _batch(1, b"fine_labels", 100), "test": _batch(2, b"fine_labels", 100)}
    ten = {"batches.meta": {b"label_names": [b"class%d" % i for i in range(10)]},
           **{f"data_batch_{i}": _batch(10 + i, b"labels", 10) for i in range(1, 6)},
           "test_batch": _batch(20, b"labels", 10)}
    return [{name: write(content) for name, content in files.items()} for files in (hundred, ten)]


def _extract(folder, name="cifar", members=None):
    for sub, files in zip(FILES[name], members or _members(), strict=True):
        (folder / sub).mkdir(parents=True, exist_ok=True)
        for file, data in files.items():
            (folder / sub / file).write_bytes(data)
    return folder


def _pack(folder, name="cifar", members=None, level=6):
    for sub, archive, files in zip(FILES[name], ARCHIVES[name], members or _members(), strict=True):
        if archive.endswith(".zip"):
            with zipfile.ZipFile(folder / archive, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as packed:
                for file, data in files.items():
                    packed.writestr(f"{sub}/{file}", data)
            continue
        with tarfile.open(folder / archive, "w:gz", compresslevel=level) as packed:
            for file, data in files.items():
                entry = tarfile.TarInfo(f"{sub}/{file}")
                entry.size = len(data)
                packed.addfile(entry, io.BytesIO(data))
    return folder


def _damage(folder, data, file="cifar-100-python/train"):
    """Official folders in which one file holds `data`."""
    _extract(folder)
    (folder / file).write_bytes(data)
    return folder


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No test here may reach for the network."""
    monkeypatch.setenv("VIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VIT_DATA_MIRROR", "http://127.0.0.1:9")


# What is read.

@pytest.mark.parametrize("write", [_python2, _python3_bytes, _python3_text])
@pytest.mark.parametrize("put", [_extract, _pack])
@pytest.mark.parametrize("name", FILES)
def test_official_layout_is_read(tmp_path, name, put, write):
    put(tmp_path, name, _members(write))
    pair = load(name, str(tmp_path))
    first, last = _batch(1, b"fine_labels", 100), _batch(20, b"labels", 10)
    assert (pair.pretrain.train.images.shape, pair.pretrain.train.images.dtype) == ((COUNT, 32, 32, 3), np.uint8)
    assert pair.finetune.train.images.shape == (5 * COUNT, 32, 32, 3)
    assert pair.pretrain.classes == tuple(f"class{i}" for i in range(100))
    assert pair.finetune.classes == tuple(f"class{i}" for i in range(10))
    assert pair.pretrain.train.labels.tolist() == first[b"fine_labels"]
    assert pair.finetune.test.labels.tolist() == last[b"labels"]
    assert pair.finetune.test.labels.dtype == np.int64
    assert pair.hflip is True
    for row, column, channel in [(0, 0, 0), (0, 1, 0), (1, 0, 0), (5, 17, 1), (31, 30, 2)]:
        at = 1024 * channel + 32 * row + column
        assert pair.pretrain.train.images[2, row, column, channel] == first[b"data"][2, at]
        assert pair.finetune.test.images[1, row, column, channel] == last[b"data"][1, at]


def test_batches_follow_one_another(tmp_path):
    pair = load("cifar", str(_extract(tmp_path)))
    labels = [label for i in range(1, 6) for label in _batch(10 + i, b"labels", 10)[b"labels"]]
    assert pair.finetune.train.labels.tolist() == labels


def test_extracted_folder_goes_before_the_archive(tmp_path):
    _extract(tmp_path)
    for archive in ARCHIVES["cifar"]:
        (tmp_path / archive).write_bytes(b"not looked at")
    assert len(load("cifar", str(tmp_path)).pretrain.train) == COUNT


def test_archive_and_folder_may_be_mixed(tmp_path):
    _pack(_extract(tmp_path))
    for file in (tmp_path / "cifar-100-python").iterdir():
        file.unlink()
    (tmp_path / "cifar-100-python").rmdir()
    assert len(load("cifar", str(tmp_path)).pretrain.train) == COUNT


# What is missing.

def test_missing_data_dir(tmp_path, refused):
    with refused(tmp_path / "none", "data_dir"):
        load("cifar", str(tmp_path / "none"))


def test_unknown_name(refused):
    with refused("mnist", "digits", "cifar", "cifair"):
        load("mnist")


@pytest.mark.parametrize("file", ["cifar-100-python/meta", "cifar-100-python/test", "cifar-10-batches-py/data_batch_3"])
def test_missing_member_of_a_folder(tmp_path, refused, file):
    (_extract(tmp_path) / file).unlink()
    with refused(tmp_path / file):
        load("cifar", str(tmp_path))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("member", ["meta", "test"])
def test_missing_member_of_an_archive(tmp_path, refused, name, member):
    hundred, ten = _members()
    del hundred[member]
    _pack(tmp_path, name, [hundred, ten])
    with refused(tmp_path / ARCHIVES[name][0], f"{FILES[name][0]}/{member}"):
        load(name, str(tmp_path))


# Damaged archives.

@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.9, -1])
def test_truncated_archive(tmp_path, refused, name, keep):
    path = _pack(tmp_path, name) / ARCHIVES[name][0]
    raw = path.read_bytes()
    path.write_bytes(raw[:int(keep * len(raw)) if isinstance(keep, float) else keep])
    with refused(path, "archive"):
        load(name, str(tmp_path))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"<html>not found</html>", b"PK\x03\x04 cut", b"\x1f\x8b\x08\x00 cut",
                                     b"x" * 10240])
def test_file_that_is_no_archive(tmp_path, refused, name, content):
    path = _pack(tmp_path, name) / ARCHIVES[name][0]
    path.write_bytes(content)
    with refused(path, "archive"):
        load(name, str(tmp_path))


@pytest.mark.parametrize("name", FILES)
def test_flipped_bit_in_an_archives_images(tmp_path, refused, name):
    """The images are stored as they are, so that only the archive's checksum can tell."""
    path = _pack(tmp_path, name, level=0) / ARCHIVES[name][0]
    raw = bytearray(path.read_bytes())
    at = raw.index(_batch(1, b"fine_labels", 100)[b"data"].tobytes()[1000:1050])
    raw[at] ^= 1
    path.write_bytes(raw)
    with refused(path):
        load(name, str(tmp_path))


@pytest.mark.parametrize(("local", "central", "value"), [(6, 8, 1), (8, 10, 97)], ids=["encrypted", "unknown method"])
def test_zip_that_cannot_be_unpacked(tmp_path, refused, local, central, value):
    path = _pack(tmp_path, "cifair") / "ciFAIR-100.zip"
    raw = bytearray(path.read_bytes())
    raw[local] = raw[raw.index(b"PK\x01\x02") + central] = value
    path.write_bytes(raw)
    with refused(path):
        load("cifair", str(tmp_path))


# Damaged and foreign pickles.

@pytest.mark.parametrize("data", [
    b"", b"hello\nworld\n", b"\x80\x02}", b"<html></html>", b"\x80\x05.", b"\xff" * 100,
    _python2(_batch(1, b"fine_labels", 100))[:-1], _python2(_batch(1, b"fine_labels", 100))[:4000],
    b"\x80\x02]r\xff\xff\xff\x7f.", b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x0f.", b"Pa\n.",
    pickle.dumps([1, 2]), pickle.dumps(None), pickle.dumps("text"),
], ids=range(14))
def test_file_that_is_no_dict_pickle(tmp_path, refused, data):
    with refused(tmp_path / "cifar-100-python/train", "not a CIFAR file"):
        load("cifar", str(_damage(tmp_path, data)))


@pytest.mark.parametrize("change", [
    {b"data": None}, {b"data": [1, 2]}, {b"data": b"\0" * 3072}, {b"data": np.zeros((COUNT, 3072))},
    {b"data": np.zeros((COUNT, 3072), np.int8)}, {b"data": np.zeros((COUNT, 3071), np.uint8)},
    {b"data": np.zeros((0, 3072), np.uint8)}, {b"data": np.zeros((3072, COUNT), np.uint8)},
    {b"data": np.zeros((COUNT, 3072), object)},
], ids=range(9))
def test_images_of_a_wrong_kind(tmp_path, refused, change):
    content = _batch(1, b"fine_labels", 100) | change
    with refused(tmp_path / "cifar-100-python/train", "'data'", "3 x 32 x 32"):
        load("cifar", str(_damage(tmp_path, _python2(content))))


@pytest.mark.parametrize("labels", [None, [1, 2], [1, 2, 3, 4], [1, 2, 3.0], [1, 2, "3"], [1, 2, True], [1, 2, None],
                                    np.array([1, 2, 3]), (1, 2, 3), {1: 2}])
def test_labels_of_a_wrong_kind(tmp_path, refused, labels):
    content = _batch(1, b"fine_labels", 100) | {b"fine_labels": labels}
    with refused(tmp_path / "cifar-100-python/train", "'fine_labels'", str(COUNT)):
        load("cifar", str(_damage(tmp_path, _python3_bytes(content))))


@pytest.mark.parametrize(("labels", "found"), [([0, 100, 5], "0 to 100"), ([-1, 3, 5], "-1 to 5"),
                                               ([0, 2**70, 1], f"0 to {2**70}")])
def test_labels_out_of_range(tmp_path, refused, labels, found):
    content = _batch(1, b"fine_labels", 100) | {b"fine_labels": labels}
    with refused(tmp_path / "cifar-100-python/train", "0 to 99", found):
        load("cifar", str(_damage(tmp_path, _python2(content))))


def test_a_label_of_the_hundred_does_not_pass_in_the_ten(tmp_path, refused):
    content = _batch(1, b"labels", 10) | {b"labels": [0, 10, 1]}
    with refused(tmp_path / "cifar-10-batches-py/test_batch", "0 to 9", "0 to 10"):
        load("cifar", str(_damage(tmp_path, _python2(content), "cifar-10-batches-py/test_batch")))


def test_the_other_sets_file_is_refused(tmp_path, refused):
    with refused(tmp_path / "cifar-100-python/train", "'fine_labels'"):
        load("cifar", str(_damage(tmp_path, _python2(_batch(1, b"labels", 10)))))


@pytest.mark.parametrize("content", [{}, {b"fine_label_names": [b"a"] * 99}, {b"fine_label_names": b"a" * 100}])
def test_class_names_of_a_wrong_kind(tmp_path, refused, content):
    with refused(tmp_path / "cifar-100-python/meta", "100 classes"):
        load("cifar", str(_damage(tmp_path, _python2(content), "cifar-100-python/meta")))


# Pickles that would run code.

class _Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("wrap", [lambda call: call, lambda call: {b"data": call}, lambda call: {call: 1}],
                         ids=["alone", "value", "key"])
def test_pickle_that_would_run_a_command(tmp_path, refused, wrap, protocol):
    touched = tmp_path / "touched"
    data = pickle.dumps(wrap(_Call(os.system, f"touch {touched}")), protocol=protocol)
    with refused(tmp_path / "cifar-100-python/train", "system"):
        load("cifar", str(_damage(tmp_path, data)))
    assert not touched.exists()
    pickle.loads(data)  # the test's own proof that this pickle means harm
    assert touched.exists()


@pytest.mark.parametrize("asks", [b"cbuiltins\neval\n", b"c__builtin__\nexec\n", b"cnumpy\nload\n",
                                  b"cnumpy.core.multiarray\nfromstring\n", b"ccodecs\nencode\n", b"c_codecs\ndecode\n",
                                  b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93",
                                  b"\x80\x04\x8c\x06pickle\x8c\x05loads\x93", b"\x80\x02\x82\x01"])
def test_only_what_arrays_need_is_admitted(refused, asks):
    with refused("batch", "not a CIFAR file"):
        unpickle.load(asks + b".", "batch")


def test_strange_codec_is_refused(refused):
    def data(codec):
        return b"\x80\x02}X\x01\0\0\0ac_codecs\nencode\nX\x02\0\0\0\xc3\xa9X" + struct.pack("<I", len(codec)) + codec \
            + b"\x86Rs."

    assert unpickle.load(data(b"latin1"), "batch") == {"a": b"\xe9"}
    for codec in (b"rot13", b"zip", b"utf-16", b"unicode_escape"):
        with refused("batch", codec.decode()):
            unpickle.load(data(codec), "batch")
