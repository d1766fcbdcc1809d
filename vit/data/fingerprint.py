"""The fingerprint of a pair of sets: whether a stopped run goes on with the images and labels that it began with.

Images in memory are hashed whole; of those that are given one by one, all labels and a few images. Of a folder, which
may hold a million files, the names and sizes of all files are hashed, and the contents of a few files of each class. A
folder in shards has the fingerprint of the folder. Images that are set apart to evaluate on are still training images.
"""
import hashlib
import os
from collections.abc import Iterator

import numpy as np

from vit.data import file_hashes
from vit.data.sets import DataPair, Dataset, Images
from vit.errors import UserError
from vit.files.untrusted import listed

_SETS = {"pretrain": "the set to pretrain on", "finetune": "the set to finetune on"}
_PARTS = {"train": "training", "test": "test"}
_SAMPLED = 64
_OF_FILES = ("names", "sizes", "contents")


def fingerprint(data: DataPair) -> dict:
    """Describe a pair of sets by names, counts and hashes.

    Args:
        data: The pair. The files of a folder are looked at, and some of them read.

    Returns:
        Plain values for JSON: under "pretrain" and "finetune" None or a dict with the "name" of the set, its "classes"
        in the order of the labels, and under "train" and "test" a dict with the "counts" of images in each class. With
        these counts are hashes of the "images" and the "labels"; or, for a folder, a hash for each class of its files'
        "names", "sizes" and, of a sample of its files, "contents".

    Raises:
        UserError: A file of a folder cannot be read.
    """
    return {name: None if dataset is None else {
        "name": dataset.name, "classes": list(dataset.classes),
        "train": _part(dataset, dataset.train), "test": _part(dataset, dataset.test)}
        for name, dataset in (("pretrain", data.pretrain), ("finetune", data.finetune))}


def _part(dataset: Dataset, images) -> dict:
    from vit.data.arrays import EachImage  # it imports what reads images, and a checkpoint's reader needs none
    counts = np.bincount(images.labels, minlength=len(dataset.classes)).tolist()
    if isinstance(images, Images | EachImage):
        digest = hashlib.sha256()
        for pixels in [images.images] if isinstance(images, Images) else _sample(images):
            digest.update(f"{pixels.dtype.str} {pixels.shape}\n".encode())
            digest.update(np.ascontiguousarray(pixels))
        return {"counts": counts, "images": digest.hexdigest(),
                "labels": hashlib.sha256(images.labels.astype("<i8").tobytes()).hexdigest()}
    if described := getattr(images, "described", None):  # shards say it of the files that they were made of
        return {"counts": counts, **described}
    classes = len(dataset.classes)
    try:
        names = [os.fsencode(os.path.basename(path)) for path in images.paths]
        sizes = np.array([os.stat(path).st_size for path in images.paths], np.int64)
        return {"counts": counts, **file_hashes.named(names, sizes, images.labels, classes),
                "contents": file_hashes.contents(images.paths, images.labels, classes)}
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from None


def _sample(images) -> Iterator[np.ndarray]:
    """Some of the images, evenly spread."""
    for index in np.linspace(0, len(images) - 1, min(len(images), _SAMPLED)).astype(int):
        yield images[index]


def is_fingerprint(value: object) -> bool:
    """Tell whether a value from a file has the form that `fingerprint` returns."""
    return (isinstance(value, dict) and set(value) == set(_SETS) and isinstance(value["finetune"], dict)
            and all(dataset is None or _is_set(dataset) for dataset in value.values()))


def _is_set(value: object) -> bool:
    return (isinstance(value, dict) and set(value) == {"name", "classes", *_PARTS} and type(value["name"]) is str
            and _are(str, value["classes"]) and all(_is_part(value[part], len(value["classes"])) for part in _PARTS)
            and set(value["train"]) == set(value["test"]))


def _is_part(value: object, classes: int) -> bool:
    if not isinstance(value, dict) or not _are(int, value.get("counts"), classes):
        return False
    if set(value) == {"counts", "images", "labels"}:
        return type(value["images"]) is str and type(value["labels"]) is str
    return set(value) == {"counts", *_OF_FILES} and all(_are(str, value[key], classes) for key in _OF_FILES)


def _are(kind: type, values: object, count: int | None = None) -> bool:
    """Whether values are a list of one type, and as many as there should be."""
    return (isinstance(values, list) and all(type(value) is kind for value in values)
            and (count is None or len(values) == count))


def difference(old: dict, new: dict) -> str | None:
    """Say in what the sets of two fingerprints differ. What a folder of images is called, or where it is, is no part.

    Args:
        old: The fingerprint of the sets that a run began with.
        new: The fingerprint of those that are there now.

    Returns:
        One line that names the first difference, or None if there is none.
    """
    for name, title in _SETS.items():
        was, now = old[name], new[name]
        if was is None and now is None:
            continue
        if was is None or now is None or _kind(was) != _kind(now):
            was, now = ("none" if dataset is None else repr(dataset["name"]) for dataset in (was, now))
            return f"{title} was {was} and is {now}"
        line = _set_difference(was, now)
        if line is not None:
            return f"{title}: {line}"
    return None


def _kind(dataset: dict) -> str:
    """What a set is called, or "folder" for all folders."""
    return "folder" if "names" in dataset["train"] else dataset["name"]


def _set_difference(old: dict, new: dict) -> str | None:
    was, now = old["classes"], new["classes"]
    if was != now:
        gone, added = dict.fromkeys(was), dict.fromkeys(now)
        faults = [f"class {name!r} is gone" for name in gone if name not in added]
        faults += [f"class {name!r} is new" for name in added if name not in gone]
        faults += [f"label {i} was {was[i]!r} and is {now[i]!r}" for i in _changed(was, now)]
        return listed(faults or ["a class comes twice"])
    for part, title in _PARTS.items():
        line = _part_difference(old[part], new[part], was)
        if line is not None:
            return f"{title} images: {line}"
    return None


def _part_difference(old: dict, new: dict, classes: list[str]) -> str | None:
    had, has = old["counts"], new["counts"]
    if had != has:
        return listed([f"{classes[i]!r} had {had[i]} and has {has[i]}" for i in _changed(had, has)])
    for key in _OF_FILES:
        if old.get(key) != new.get(key):
            return f"files of other {key} in {listed([repr(classes[i]) for i in _changed(old[key], new[key])])}"
    for key, what in (("labels", "other labels"), ("images", "other contents")):
        if old.get(key) != new.get(key):
            return what
    return None


def _changed(old: list, new: list) -> list[int]:
    """Where two lists differ, as far as the shorter one goes."""
    return [i for i, (one, other) in enumerate(zip(old, new, strict=False)) if one != other]
