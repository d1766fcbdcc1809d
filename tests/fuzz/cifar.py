"""CIFAR's files: pickles with other opcodes, and archives that are damaged or hold something else."""
import functools
import gzip
import io
import pickle
import tarfile
import zipfile

import numpy as np
from hypothesis import strategies as st

from tests.fuzz.case import Case
from tests.fuzz.mutations import changed_bytes, changed_pickle, odd_values, texts

_COUNT = 2  # images in each file
_HUNDRED, _TEN = "cifar-100-python", "cifar-10-batches-py"


def _batch(seed: int, key: bytes, classes: int) -> dict:
    rng = np.random.default_rng(seed)
    return {b"data": rng.integers(0, 256, (_COUNT, 3072), np.uint8), key: rng.integers(0, classes, _COUNT).tolist(),
            b"batch_label": b"batch 1", b"filenames": [b"a.png"] * _COUNT}


def _contents() -> dict[str, dict]:
    return {
        f"{_HUNDRED}/meta": {b"fine_label_names": [b"class%d" % i for i in range(100)]},
        f"{_HUNDRED}/train": _batch(1, b"fine_labels", 100), f"{_HUNDRED}/test": _batch(2, b"fine_labels", 100),
        f"{_TEN}/batches.meta": {b"label_names": [b"class%d" % i for i in range(10)]},
        **{f"{_TEN}/data_batch_{i}": _batch(10 + i, b"labels", 10) for i in range(1, 6)},
        f"{_TEN}/test_batch": _batch(20, b"labels", 10)}


@functools.cache
def _members(protocol: int) -> dict[str, bytes]:
    return {name: pickle.dumps(content, protocol) for name, content in _contents().items()}


@st.composite
def _content(draw, name: str) -> bytes:
    """A pickle of changed content."""
    content = _contents()[name]
    key = draw(st.sampled_from(sorted(content)))
    value = content[key]
    other = [None, 1, b"x", "x", {}, [], (1, 2), -1, 10**30, 0.5, True]
    if isinstance(value, np.ndarray):
        other += [value[:0], value[:1], value.astype(np.int16), value.astype("f4"), value.reshape(-1), value.T,
                  value[..., :-1], np.asfortranarray(value), value[::-1], np.array([b"x"], object), np.array("x"),
                  np.zeros(3, "i4,f4")]
    elif isinstance(value, list):
        other += [value[:-1], value + value, value[::-1], [-1] * len(value), [10**30] * len(value), [1.0] * len(value),
                  [True] * len(value), [None] * len(value), [b"\xff"] * len(value), [b"\x1b[31m\n"] * len(value),
                  tuple(value), ["\ud800"] * len(value), [b""] * len(value), ["n" * 5000] * len(value)]
    content[key] = draw(st.one_of(st.sampled_from(range(len(other))).map(other.__getitem__), odd_values))
    if draw(st.integers(0, 4)) == 0:
        content[draw(texts)] = content.pop(key)
    try:
        return pickle.dumps(content, draw(st.sampled_from([2, 2, 3, 4, 5, 0])))
    except (RecursionError, UnicodeEncodeError, ValueError):
        return b""


def _tar(members: dict[str, bytes], odd: str) -> bytes:
    file = io.BytesIO()
    form = tarfile.PAX_FORMAT if odd == "pax" else tarfile.GNU_FORMAT
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            if odd == "link" and name.endswith("train"):
                entry.type, entry.linkname, entry.size, data = tarfile.SYMTYPE, "/etc/passwd", 0, b""
            elif odd == "hard" and name.endswith("train"):
                entry.type, entry.linkname, entry.size, data = tarfile.LNKTYPE, "../../etc/passwd", 0, b""
            elif odd == "fifo" and name.endswith("meta"):
                entry.type, entry.size, data = tarfile.FIFOTYPE, 0, b""
            archive.addfile(entry, io.BytesIO(data))
            if odd == "twice":
                archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


@st.composite
def _archive(draw, folder: str, members: dict[str, bytes]) -> bytes:
    members = {name: data for name, data in members.items() if name.startswith(folder)}
    odd = draw(st.sampled_from(["", "", "pax", "link", "hard", "fifo", "twice"]))
    data = _tar(members, odd)
    if draw(st.booleans()):
        data = draw(changed_bytes(data, 1024))
    packed = gzip.compress(data, draw(st.sampled_from([0, 6])), mtime=0)
    return packed if draw(st.booleans()) else draw(changed_bytes(packed, 40))


@st.composite
def _zip(draw, folder: str, members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            if name.startswith(folder):
                archive.writestr(name.replace(folder, {_HUNDRED: "ciFAIR-100", _TEN: "ciFAIR-10"}[folder]), data)
    return draw(changed_bytes(file.getvalue(), 600))


@st.composite
def _cases(draw) -> Case:
    members = dict(_members(draw(st.sampled_from([2, 4]))))
    how = draw(st.sampled_from(["pickle", "pickle", "pickle", "content", "content", "bytes", "tar", "zip", "missing"]))
    name = draw(st.sampled_from(sorted(members)))
    if how == "pickle":
        members[name] = draw(changed_pickle(members[name]))
    elif how == "content":
        members[name] = draw(_content(name))
    elif how == "bytes":
        members[name] = draw(changed_bytes(members[name], 200))
    files: dict[str, bytes | str] = {f"in/{path}": data for path, data in members.items()}
    if how == "missing":
        files[f"in/{name}"] = draw(st.sampled_from(["fifo", "-> /dev/zero", "-> nothing", b""]))
        if draw(st.booleans()):
            del files[f"in/{name}"]
    data = "cifar"
    if how == "tar":
        files = {f"in/{archive}.tar.gz": draw(_archive(folder, members)) for archive, folder in (
            ("cifar-100-python", _HUNDRED), ("cifar-10-python", _TEN))}
    elif how == "zip":
        data, files = "cifair", {f"in/{archive}.zip": draw(_zip(folder, members)) for archive, folder in (
            ("ciFAIR-100", _HUNDRED), ("ciFAIR-10", _TEN))}
    arguments = ("--data", data, "--data_dir", "in", "--variant", "tiny", "--batch_size", "2", "--model_dir", "out")
    return Case("script.prepare", arguments, files, ("in/", "could not download"))


cases = _cases()
