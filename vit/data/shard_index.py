"""The index of a set in shards, `shards.json`: which image lies where in which tar file, and what their sums are.

Everything in it that a file could say wrongly is held to what can be, before an image is read.
"""
import json
from dataclasses import asdict, dataclass

import numpy as np

from vit import memory
from vit.errors import UserError, one_line

INDEX, FORMAT = "shards.json", "vit-shards-1"
PARTS = ("train", "val")
BLOCK = 512  # of a tar file: each member begins with a header of one, and is filled up to whole ones
_COLUMNS = {"labels": np.int64, "offsets": np.int64, "sizes": np.int64, "crc32": np.uint32}
_PARSED = 8  # bytes of memory, at most, that a byte of the index takes while it is read


@dataclass(frozen=True)
class Shard:
    """One tar file, and the images in it in the set's order.

    Args:
        file: Its name, in the folder of the index.
        size: Its size, bytes.
        sha256: Of its bytes, hex digits.
        names: What the images' files were called, without their folders; in no order that a file system gives.
        labels: int64 [n].
        offsets: Where each image's bytes begin, int64 [n].
        sizes: How many there are, int64 [n].
        crc32: Of each image's bytes, uint32 [n].
    """
    file: str
    size: int
    sha256: str
    names: list[str]
    labels: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    crc32: np.ndarray


@dataclass(frozen=True)
class Part:
    """The images to train on, or those to evaluate on.

    Args:
        contents: For each class, what the fingerprint of the folder says of its files' contents.
        shards: The tar files, in the set's order.
    """
    contents: list[str]
    shards: list[Shard]


@dataclass(frozen=True)
class Index:
    """A set in shards.

    Args:
        name: What the folder was called.
        classes: Names of the classes, in the order of the labels.
        parts: "train" and "val".
    """
    name: str
    classes: list[str]
    parts: dict[str, Part]


def dump(index: Index) -> bytes:
    """Give an index as JSON, each shard on a line."""
    parts = ",\n".join(
        f'{json.dumps(name)}: {{"contents": {json.dumps(part.contents)}, "shards": [\n'
        + ",\n".join(json.dumps(asdict(shard), default=np.ndarray.tolist) for shard in part.shards) + "\n]}"
        for name, part in index.parts.items())
    return (f'{{"format": {json.dumps(FORMAT)}, "name": {json.dumps(index.name)}, '
            f'"classes": {json.dumps(index.classes)}, "parts": {{\n{parts}\n}}}}\n').encode()


def parse(data: bytes, where: object) -> Index:
    """Read what `dump` gave.

    Args:
        data: The JSON.
        where: The file, for the message.

    Raises:
        UserError: It is something else, or says what cannot be.
    """
    memory.check_room(_PARSED * len(data), f"{where}: an index of {len(data):,} bytes",
                      "a set of fewer images needs less")
    try:
        return _index(json.loads(data))
    except _Newer as error:
        raise UserError(f"{where}: is of format {error}, and this version reads {FORMAT}") from None
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UserError(f"{where}: not a whole index of shards ({one_line(error)}); make it again with "
                        "`vit shards make`") from None


class _Newer(Exception):
    """An index of another format."""


def _index(fields: dict) -> Index:
    if _fields(fields, ("format",), others=True)["format"] != FORMAT:
        raise _Newer(repr(fields["format"])[:40])
    _fields(fields, ("format", "name", "classes", "parts"))
    name, classes = _text(fields["name"]), [_text(item) for item in _list(fields["classes"])]
    if not 2 <= len(classes) == len(set(classes)):
        raise ValueError("classes must be two names at least, each once")
    parts = {part: _part(fields["parts"][part], len(classes)) for part in _fields(fields["parts"], PARTS)}
    files = [shard.file for part in parts.values() for shard in part.shards]
    if len(set(files)) < len(files):
        raise ValueError("it lists a file twice")
    for part in PARTS:
        if not any(len(shard.labels) for shard in parts[part].shards):
            raise ValueError(f"{part} has no images")
    return Index(name, classes, {part: parts[part] for part in PARTS})


def _part(fields: dict, classes: int) -> Part:
    _fields(fields, ("contents", "shards"))
    contents = [_text(item) for item in _list(fields["contents"])]
    if len(contents) != classes:
        raise ValueError("contents are not one for each class")
    return Part(contents, [_shard(shard, classes) for shard in _list(fields["shards"])])


def _shard(fields: dict, classes: int) -> Shard:
    _fields(fields, ("file", "size", "sha256", "names", *_COLUMNS))
    file, size, sha256 = _text(fields["file"]), fields["size"], _text(fields["sha256"])
    if not file.endswith(".tar") or "/" in file or "\\" in file or file.startswith(".") or not file.isprintable():
        raise ValueError(f"{ascii(file)[:60]} is not the name of a .tar file beside it")
    if type(size) is not int or not 0 <= size < 1 << 50:
        raise ValueError(f"{file}: its size is no number of bytes")
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise ValueError(f"{file}: its sha256 is none")
    names = [_text(name, "surrogateescape") for name in _list(fields["names"])]
    columns = {name: _numbers(fields[name], len(names), f"{file}: {name}") for name in _COLUMNS}
    labels, offsets, sizes = columns["labels"], columns["offsets"], columns["sizes"]
    ends = offsets + sizes
    if len(names) and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"{file}: a label is of no class")
    # The lengths come first: of two numbers that are too large the sum would be negative.
    if len(names) and not (sizes.min() > 0 and sizes.max() < 1 << 31 and offsets.max() <= size and offsets[0] >= BLOCK
                           and (offsets % BLOCK == 0).all() and (ends[:-1] + BLOCK <= offsets[1:]).all()
                           and ends[-1] <= size):
        raise ValueError(f"{file}: its images lie where they cannot")
    return Shard(file, size, sha256, names, **{name: columns[name].astype(_COLUMNS[name]) for name in columns})


def _numbers(values: list, count: int, what: str) -> np.ndarray:
    found = np.asarray(_list(values) or [], np.int64 if not values else None)
    if found.shape != (count,) or found.dtype.kind != "i" or (count and found.min() < 0):
        raise ValueError(f"{what} are not one whole number for each image")
    if what.endswith("crc32") and count and found.max() >= 1 << 32:
        raise ValueError(f"{what} are no sums")
    return found


def _fields(value: dict, names: tuple[str, ...], others: bool = False) -> dict:
    if not isinstance(value, dict) or not (set(names) <= set(value) if others else set(names) == set(value)):
        raise ValueError(f"it must have {', '.join(names)}")
    return value


def _list(value: list) -> list:
    if not isinstance(value, list):
        raise ValueError("a list is missing")
    return value


def _text(value: str, errors: str = "strict") -> str:
    if type(value) is not str or not value or "\0" in value:
        raise ValueError("a name is missing")
    value.encode(errors=errors)  # JSON can hold halves of characters
    return value
