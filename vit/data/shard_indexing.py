"""The index of shards that others have made, in webdataset's layout: a class is a number, a name or a folder."""
import io
import os
import tarfile
import zlib
from pathlib import Path

import numpy as np

from vit.data import image_folder
from vit.data.download import sha256
from vit.data.shard_index import BLOCK, INDEX, Index, Part, Shard, dump
from vit.errors import UserError, one_line, printable
from vit.files.atomic import write_whole
from vit.files.kinds import check_file
from vit.files.untrusted import listed

_PARTS = {"train": "train", "val": "val", "test": "val"}  # what a file's name begins with
_MOST = 1000  # bytes of a label


def write(folder: Path, classes: tuple[str, ...] | None = None) -> Index:
    """Read all shards of a folder, and write their index.

    Files whose names begin with `train` are to train on, those with `val` or `test` to evaluate on. The members of a
    sample have one key, their name up to the first dot behind its folders: an image, and in `KEY.cls` its class. Where
    there is no `KEY.cls`, the class is the folder that the image is in. Other members are left out.

    Args:
        folder: Where the shards are.
        classes: Names of the classes, where `KEY.cls` has numbers; None takes the numbers for names.

    Returns:
        The index.

    Raises:
        UserError: The shards are none, or cannot be read, or an image has no class or cannot be read.
    """
    if (folder / INDEX).exists():
        raise UserError(f"{folder}: holds {INDEX} already; delete it to make another one")
    files: dict[str, list[Path]] = {"train": [], "val": []}
    try:
        for path in sorted(folder.glob("*.tar")):
            part = next((part for begin, part in _PARTS.items() if path.name.startswith(begin)), None)
            if part is None:
                raise UserError(f"{path}: to train on or to evaluate on? its name must begin with {', '.join(_PARTS)}")
            files[part].append(path)
        if missing := [part for part, paths in files.items() if not paths]:
            raise UserError(f"{folder}: holds no file whose name begins with {missing[0]} and ends in .tar")
        found = {part: [(path, _samples(path)) for path in paths] for part, paths in files.items()}
        index = _index(folder, found, classes)
        write_whole(folder / INDEX, dump(index))
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror}") from None
    return index


def _samples(path: Path) -> list[tuple[str, str, int, int, int]]:
    """Name, class, offset, size and crc32 of each image of a shard."""
    check_file(path)
    images, labels = {}, {}
    try:
        with open(path, "rb") as file:
            file.seek(-min(BLOCK, path.stat().st_size), os.SEEK_END)
            if path.stat().st_size % BLOCK or file.read() != bytes(BLOCK):  # tarfile takes what ends between members
                raise tarfile.ReadError("its end is missing")
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                place, _, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                if not member.isreg() or member.issparse() or not stem:
                    continue
                key, ending = f"{place}/{stem}", f".{ending.lower()}"
                if ending in image_folder.ENDINGS:
                    if key in images:
                        raise UserError(f"{path}: {printable(member.name)} is a second image of one key")
                    images[key] = member.name, place.rpartition("/")[2], member.offset_data, member.size
                elif ending == ".cls":
                    labels[key] = archive.extractfile(member).read(_MOST).decode().strip()
    except (tarfile.TarError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a whole tar file in webdataset's layout ({one_line(error)})") from None
    samples = []
    with open(path, "rb") as file:
        for key, (name, place, offset, size) in images.items():
            data = os.pread(file.fileno(), size, offset)
            _, fault = image_folder.decode(io.BytesIO(data))
            if fault is not None or len(data) != size:
                raise UserError(f"{path}: {printable(name)}: {fault or 'is cut'}; make the shards again without it")
            label = labels.get(key) or place
            if not label:
                raise UserError(f"{path}: {printable(name)} has no class: neither a member {printable(key[1:])}.cls "
                                "nor a folder")
            samples.append((name, label, offset, size, zlib.crc32(data)))
    return samples


def _index(folder: Path, found: dict[str, list], names: tuple[str, ...] | None) -> Index:
    labels = {label for shards in found.values() for _, samples in shards for _, label, *_ in samples}
    numbered = all(label.isascii() and label.isdecimal() for label in labels)
    if numbered:
        count = 1 + max(map(int, labels), default=0)
        if count > 2 * len(labels) + 1000 or (names is not None and count > len(names)):
            raise UserError(f"{folder}: there is an image of class {count - 1}, and there are "
                            f"{len(labels if names is None else names)} classes")
        classes = list(names or map(str, range(count)))
        number = {label: int(label) for label in labels}
    else:
        if names is not None:
            raise UserError(f"{folder}: its classes have names already: {listed(sorted(labels))}")
        classes = sorted(labels)
        number = {label: place for place, label in enumerate(classes)}
    if len(classes) < 2:
        raise UserError(f"{folder}: holds images of {len(classes)} classes, and two at least are needed")
    parts = {part: _part(shards, number, len(classes)) for part, shards in found.items()}
    return Index(folder.resolve().name or "shards", classes, parts)


def _part(shards: list[tuple[Path, list]], number: dict[str, int], classes: int) -> Part:
    described, sums = [], np.zeros(classes, np.int64)
    for path, samples in shards:
        labels = np.array([number[label] for _, label, *_ in samples], np.int64)
        offsets, sizes, crc32 = (np.array([sample[column] for sample in samples], np.int64) for column in (2, 3, 4))
        for label, one in zip(labels.tolist(), crc32.tolist(), strict=True):
            sums[label] = zlib.crc32(one.to_bytes(4, "little"), int(sums[label]))
        described.append(Shard(path.name, path.stat().st_size, sha256(path), [name for name, *_ in samples], labels,
                               offsets, sizes, crc32))
    return Part([f"{one:08x}" for one in sums.tolist()], described)
