"""What a fingerprint says of images in files: for each class, hashes of the files' names, sizes and some contents."""
import hashlib
import os

import numpy as np

_SAMPLED_FILES, _SAMPLED_BYTES = 64, 1 << 16  # of all classes, but one of each at least; of each of these files
_DIGITS = 8  # of each class's hashes: there may be thousands of classes, and a checkpoint holds the hashes of all


def named(names: list[bytes], sizes: np.ndarray, labels: np.ndarray, classes: int) -> dict[str, list[str]]:
    """Hash the "names" and the "sizes" of each class's files.

    Args:
        names: What they are called, without their folders, [n].
        sizes: Their bytes, int64 [n].
        labels: [n].
        classes: How many there are.
    """
    groups = _groups(labels, classes)
    return {"names": [_hash(b"\0".join(names[i] for i in group)) for group in groups],
            "sizes": [_hash(sizes[group].astype("<i8").tobytes()) for group in groups]}


def contents(paths: tuple[os.PathLike, ...], labels: np.ndarray, classes: int) -> list[str]:
    """Hash the contents of some of each class's files.

    Raises:
        OSError: One of them cannot be read.
    """
    return [_hash(b"".join(_begin(paths[i]) for i in _sample(group, classes))) for group in _groups(labels, classes)]


def _groups(labels: np.ndarray, classes: int) -> list[np.ndarray]:
    """The places of each class's files, in their order."""
    return np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels, minlength=classes))[:-1])


def _sample(group: np.ndarray, classes: int) -> np.ndarray:
    """Some of a class's files, evenly spread, where there are so many classes."""
    count = min(len(group), max(1, _SAMPLED_FILES // classes))
    return group[np.linspace(0, len(group) - 1, count).astype(int)]


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGITS]


def _begin(path: os.PathLike) -> bytes:
    with open(path, "rb") as file:
        return file.read(_SAMPLED_BYTES)
