"""CIFAR's archives, in tiny imitations: what is read from them, and that damage and malice end in one line."""
import dataclasses
import gzip
import io
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vit.data import cifar, download, load, unpickle
from vit.errors import UserError
from vit.files import zip_directory

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


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_files_that_python_3_wrote_are_read_in_all_of_their_protocols(tmp_path, protocol):
    def write(content):
        return pickle.dumps(content, protocol=protocol)

    images = load("cifar", str(_extract(tmp_path, members=_members(write)))).pretrain.train.images
    assert images.reshape(COUNT, -1).tolist() == load("cifar", str(_extract(tmp_path))).pretrain.train.images.reshape(
        COUNT, -1).tolist()


def test_arrays_are_read_as_numpy_2_names_them():
    data = _python2({b"data": np.arange(6, dtype=np.uint8).reshape(2, 3)})
    assert b"numpy.core.multiarray" in data
    again = unpickle.load(data.replace(b"numpy.core.multiarray", b"numpy._core.multiarray"), "batch")
    assert again["data"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_arrays_are_read_whatever_axis_varies_fastest():
    rows = np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    assert unpickle.load(_python2({b"data": rows}), "batch")["data"].tolist() == rows.tolist()


def test_batches_follow_one_another(tmp_path):
    pair = load("cifar", str(_extract(tmp_path)))
    labels = [label for i in range(1, 6) for label in _batch(10 + i, b"labels", 10)[b"labels"]]
    assert pair.finetune.train.labels.tolist() == labels


def test_of_a_number_of_classes_its_set_alone_is_read(tmp_path):
    """Nothing is downloaded of the other."""
    ten, hundred = _extract(tmp_path / "ten"), _extract(tmp_path / "hundred")
    shutil.rmtree(ten / "cifar-100-python")
    shutil.rmtree(hundred / "cifar-10-batches-py")
    for folder, classes in ((ten, 10), (hundred, 100)):
        pair = load("cifar", str(folder), classes=classes)
        assert pair.pretrain is None and len(pair.finetune.classes) == classes
    assert load("cifar", str(_extract(tmp_path)), classes=37).pretrain is not None


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


@pytest.mark.parametrize("name", FILES)
def test_an_archive_that_is_not_the_published_one_is_noted_and_read(tmp_path, capsys, monkeypatch, name):
    path = _pack(tmp_path, name) / ARCHIVES[name][0]
    assert len(load(name, str(tmp_path)).pretrain.train) == COUNT
    notes = capsys.readouterr().out.splitlines()
    published, own = cifar.PAIRS[name][0].file.checksum, download.checksum(path, cifar.PAIRS[name][0].file)
    assert len(notes) == 2 and notes[0].startswith(f"note: {path}: not the published archive")
    assert published in notes[0] and own in notes[0] and own != published
    files = [dataclasses.replace(archive.file, checksum=download.checksum(tmp_path / archive.file.name, archive.file))
             for archive in cifar.PAIRS[name]]
    monkeypatch.setitem(cifar.PAIRS, name, tuple(
        dataclasses.replace(archive, file=file) for archive, file in zip(cifar.PAIRS[name], files, strict=True)))
    load(name, str(tmp_path))
    assert capsys.readouterr().out == ""


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


# Archives that are bombs.

@pytest.fixture
def small_bound(monkeypatch):
    """A bound of 192 KiB on what is read, so that a bomb may be small."""
    monkeypatch.setattr(cifar, "_MAX_BYTES", 3 << 16)


def _tar(path, *entries):
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as packed:
        for entry, data in entries:
            packed.addfile(entry, io.BytesIO(data))
    return path


def _entry(name, size):
    entry = tarfile.TarInfo(f"cifar-100-python/{name}")
    entry.size = size
    return entry


def test_whole_archives_are_below_the_bound(tmp_path, small_bound):
    assert len(load("cifar", str(_pack(tmp_path))).pretrain.train) == COUNT
    for path in tmp_path.iterdir():
        path.unlink()
    assert len(load("cifair", str(_pack(tmp_path, "cifair"))).pretrain.train) == COUNT


@pytest.mark.parametrize("names", [["train"], ["other"], ["train", "test"], ["train"] * 3, ["other"] * 3])
def test_members_that_unpack_to_more_than_a_set_are_not_read(tmp_path, refused, small_bound, names):
    size = (1 << 18) // len(names)
    path = _tar(tmp_path / ARCHIVES["cifar"][0], *((_entry(name, size), bytes(size)) for name in names))
    assert path.stat().st_size < 2000
    with refused(path, "claims", "186 MB"):
        load("cifar", str(tmp_path))


def test_a_header_that_unpacks_to_more_than_a_set_is_not_read(tmp_path, refused, small_bound):
    entry = _entry("train", 0)
    entry.pax_headers = {"comment": "x" * (1 << 18)}
    path = _tar(tmp_path / ARCHIVES["cifar"][0], (entry, b""))
    with refused(path, "claims", "186 MB"):
        load("cifar", str(tmp_path))


def test_what_follows_the_members_is_bounded(tmp_path, refused, small_bound):
    path = _pack(tmp_path) / ARCHIVES["cifar"][0]
    path.write_bytes(path.read_bytes() + gzip.compress(bytes(1 << 20)))
    with refused(path, "claims", "186 MB"):
        load("cifar", str(tmp_path))


def test_members_with_gaps_count_as_long_as_they_say(tmp_path, refused, small_bound):
    """A header of 512 bytes may describe a file of terabytes of which nothing is stored."""
    entry = _entry("train", 0)
    entry.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % (1 << 32)  # its length with the gaps
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 256 + sum(header[156:]))
    (tmp_path / ARCHIVES["cifar"][0]).write_bytes(gzip.compress(bytes(header) + bytes(1024)))
    with refused(ARCHIVES["cifar"][0], f"{1 << 32:,}"):
        load("cifar", str(tmp_path))


def test_an_archive_of_countless_members_is_not_read(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(cifar, "_MAX_MEMBERS", 5)
    path = _tar(tmp_path / ARCHIVES["cifar"][0], *((_entry(f"{i}", 0), b"") for i in range(6)))
    with refused(path, "more than 5 members"):
        load("cifar", str(tmp_path))


def test_members_of_a_zip_that_unpack_to_more_than_a_set_are_not_read(tmp_path, refused, small_bound):
    with zipfile.ZipFile(tmp_path / "ciFAIR-100.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in ("meta", "train", "test"):
            packed.writestr(f"ciFAIR-100/{name}", bytes(1 << 17))
    with refused("ciFAIR-100.zip", "claims", "186 MB"):
        load("cifair", str(tmp_path))


def test_a_zip_of_a_million_names_is_not_read(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(zip_directory, "MAX_HEADER_BYTES", 1 << 10)
    with zipfile.ZipFile(tmp_path / "ciFAIR-100.zip", "w") as packed:
        for i in range(100):
            packed.writestr(f"ciFAIR-100/{i}", b"")
    with refused("ciFAIR-100.zip", "table of contents"):
        load("cifair", str(tmp_path))


def test_a_file_of_a_folder_that_is_larger_than_a_set_is_not_read(tmp_path, refused):
    """It takes no room on the disk."""
    _extract(tmp_path)
    os.truncate(tmp_path / "cifar-100-python" / "train", 1 << 40)
    with refused(tmp_path / "cifar-100-python" / "train", f"{1 << 40:,} bytes"):
        load("cifar", str(tmp_path))


@pytest.mark.parametrize("path", ["cifar-100-python/train", "cifar-10-python.tar.gz"])
@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_what_is_no_file_is_not_waited_for(tmp_path, refused, path, kind):
    _extract(tmp_path)
    if path.endswith(".gz"):
        shutil.rmtree(tmp_path / "cifar-10-batches-py")
    else:
        (tmp_path / path).unlink()
    if kind == "fifo":
        os.mkfifo(tmp_path / path)
    elif kind == "folder":
        (tmp_path / path).mkdir()
    else:
        (tmp_path / path).symlink_to("/dev/zero")
    with refused(tmp_path / path, "not a file"):
        load("cifar", str(tmp_path))


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


@pytest.mark.parametrize("names", [[b"a"] * 99 + [1], [b"a"] * 99 + [None], [b"a"] * 99 + [[]]])
def test_a_class_name_that_is_no_text(tmp_path, refused, names):
    with refused(tmp_path / "cifar-100-python/meta", "100 classes"):
        load("cifar", str(_damage(tmp_path, _python2({b"fine_label_names": names}), "cifar-100-python/meta")))


# Pickles that would crash the process, or fill its memory.

def _array(dtype=b"U\x02u1", flags=0, shape=b"K\x02\x85", content=b"U\x02\xff\xff", rows=b"U\x04data"):
    """A dict with one array, written opcode by opcode: its type, that type's flags, its shape and its bytes."""
    state = b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK" + bytes([flags]) + b"tb"
    return (b"\x80\x02}" + rows + b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R(K\x01"
            + shape + b"cnumpy\ndtype\n" + dtype + b"K\0K\x01\x87R" + state + b"\x89" + content + b"tbs.")


def test_an_array_that_is_written_by_hand_is_read():
    assert unpickle.load(_array(), "batch")["data"].tolist() == [255, 255]


@pytest.mark.parametrize("dtype", [b"U\x02O8", b"U\x02f8", b"U\x02i1", b"U\x06u1,u1 ", b"K\x01", b"N", b"]", b"h\0"])
def test_bytes_are_never_taken_for_another_type(tmp_path, refused, dtype):
    """Python's unpickler crashed on the first: objects, with flags that say they are none, made of these bytes."""
    data = _array(dtype, shape=b"K\x01M\0\x0c\x86", content=b"T\0\x0c\0\0" + b"\x01" * 3072)
    if dtype == b"h\0":
        data = data.replace(b"\x80\x02}", b"\x80\x02}q\0", 1)  # the dict itself
    with refused(tmp_path / "cifar-100-python/train", "'data'", "3 x 32 x 32"):
        load("cifar", str(_damage(tmp_path, data)))


@pytest.mark.parametrize("shape", [b"K\x03\x85", b"K\x01\x85", b"J\xfe\xff\xff\xff\x85", b"K\x02", b"]K\x02a", b"N",
                                   b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\0\x85", b"\x88K\x02\x86", b")",
                                   b"(" + b"K\x01" * 40 + b"K\x02t", b"h\0"])
def test_a_shape_that_its_bytes_do_not_have_gives_no_array(shape):
    data = _array(shape=shape).replace(b"\x80\x02}", b"\x80\x02}q\0", 1)
    assert not isinstance(unpickle.load(data, "batch")["data"], np.ndarray)


def test_an_array_without_values_may_not_claim_sizes_beyond_reason():
    data = _array(shape=b"K\0\x8a\x08" + struct.pack("<Q", 1 << 62) + b"\x86", content=b"U\0")
    assert isinstance(unpickle.load(data, "batch")["data"], unpickle.PickledArray)


@pytest.mark.parametrize("content", [b"N", b"X\x02\0\0\0ab", b"]K\x01aK\x01a", b"K\x02"])
def test_bytes_that_are_none_give_no_array(content):
    assert not isinstance(unpickle.load(_array(content=content), "batch")["data"], np.ndarray)


@pytest.mark.parametrize("data", [
    b"\x80\x02}cnumpy\nndarray\n(K\xfft\x81.", b"\x80\x02}cnumpy\nndarray\nK\xff\x85R.", b"\x80\x02}K\x01b.",
    b"\x80\x02}K\x01K\x02\x85R.", b"\x80\x02cnumpy\ndtype\nU\x02O8R.", b"\x80\x02cnumpy\ndtype\n)R.",
    b"\x80\x02c_codecs\nencode\n]]\x86R.", b"\x80\x02c_codecs\nencode\nX\x03\0\0\0\xe2\x82\xacX\x06\0\0\0latin1\x86R.",
    b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\n\x85R.", b"\x80\x02K\x01K\x02a.",
    b"\x80\x02}K\x01a.", b"\x80\x02]K\x01K\x02s.", b"\x80\x02}(K\x01u.", b"\x80\x02}]K\x01s.", b"\x80\x02e.",
    b"\x80\x02h\x05.",
    b"\x80\x04\x93.", b"\x80\x02X\x02\0\0\0\xff\xff.", b"\x80\x02}2.", b"\x80\x02}I1\n.", b"\x80\x02\x8b\0\0\0\0.",
], ids=range(21))
def test_opcodes_that_no_file_of_cifar_holds_are_one_line(refused, data):
    with refused("batch", "not a CIFAR file"):
        unpickle.load(data, "batch")


_WHOLE = _python2(_batch(1, b"fine_labels", 100) | {b"data": np.zeros((COUNT, 4), np.uint8)})


@settings(max_examples=300, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, len(_WHOLE) - 1), st.binary(max_size=3)), min_size=1, max_size=4))
def test_a_damaged_file_is_one_line_or_plain_values(changes):
    data = bytearray(_WHOLE)
    for at, piece in changes:
        data[at:at + 1] = piece
    try:
        content = unpickle.load(bytes(data), "batch")
    except UserError as error:
        assert str(error).startswith("batch: not a CIFAR file (") and "\n" not in str(error)
    else:
        assert {type(key) for key in content} <= {str}
        assert all(value.dtype == np.uint8 for value in content.values() if isinstance(value, np.ndarray))


def test_countless_opcodes_are_not_run(refused, monkeypatch):
    monkeypatch.setattr(unpickle, "_MAX_OPCODES", 1000)
    with refused("batch", "more than 1,000 opcodes"):
        unpickle.load(b"\x80\x02}" + b"]" * 1000 + b".", "batch")


def test_values_that_are_nested_without_end_are_only_values(tmp_path, refused):
    """To print them, to hash them or to compare them would end the process."""
    deep = b"]" + b"\x85" * 50_000
    for data in (b"\x80\x02}U\x04data" + deep + b"s.", b"\x80\x02}U\x0bfine_labels]" + deep + b"as."):
        with refused(tmp_path / "cifar-100-python/train", "'data'"):
            load("cifar", str(_damage(tmp_path, data)))
    for data in (b"\x80\x02}" + deep + b"K\x01s.", b"\x80\x02c_codecs\nencode\nX\0\0\0\0" + deep + b"\x86R.",
                 b"\x80\x02]q\0h\0a."):
        with refused("batch", "not a CIFAR file"):
            unpickle.load(data, "batch")


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
