"""`--data folder`: your own images in `DIR/{train,val}/<class>/*`, laid out like ImageNet, read one by one when needed.

Where some of the training images are set apart to evaluate on, there need be no `val`; and without either, the classes
may lie in `DIR` itself.

An image may be of any size and mode: it is rotated as its EXIF says, transparent parts become white, grey and palettes
become RGB, 16 bits become 8. Images that cannot be read are named before the training starts.

What else lies in a class folder is left out, and counted in one note: files that do not end as images do, and folders,
which are not looked into. Not counted is what file managers put everywhere, and nobody takes for an image: names that
begin with a dot, such as .DS_Store, and Windows's Thumbs.db and desktop.ini.
"""
import concurrent.futures
import functools
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from fe_compat import quiet_stderr
from PIL import Image, ImageOps, UnidentifiedImageError

from vit import terminal
from vit.data.sets import OF_DATA, DataPair, Dataset
from vit.errors import UserError, one_line, printable

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
NO_IMAGE = "not an image"  # the fault of what is of no such format
_OF_FILE_MANAGERS = ("thumbs.db", "desktop.ini")
_MAX_DECODED = 20_000  # of a larger set, only the beginning and the end of each file are checked


@dataclass(frozen=True)
class FolderImages:
    """Labelled images of any size, read from their files one by one; the counterpart of `Images`.

    Args:
        paths: The files.
        labels: int64 [n], in 0..len(classes)-1.
    """
    paths: tuple[Path, ...]
    labels: np.ndarray
    image_size = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> np.ndarray:
        return read(self.paths[index])

    def take(self, indices: np.ndarray) -> "FolderImages":
        """Return some of the images, in the order of the indices."""
        return FolderImages(tuple(self.paths[index] for index in indices), self.labels[indices])


def load(folder: Path, skip_bad_images: bool = False, untested: bool = False) -> DataPair:
    """Find the classes and images of a folder, and check every image once; there is no set to pretrain on.

    Args:
        folder: A folder with `train` and `val` in it, each with one folder for each class.
        skip_bad_images: Whether to go on without the images that cannot be read.
        untested: Whether there may be no `val`; and without it no `train`, but the classes in the folder itself.

    Raises:
        UserError: The folder does not hold that, or an image cannot be read.
    """
    train, val = folder / "train", folder / "val"
    if untested and not val.exists():
        train, val = train if train.exists() else folder, None
    classes = _subfolders(train)
    if len(classes) < 2:
        raise UserError(f"{train}: holds {len(classes)} class folders, and two at least are needed; "
                        f"images are looked for in {folder}/train/<class>/ and {folder}/val/<class>/")
    if unknown := sorted(set(_subfolders(val)) - set(classes) if val else ()):
        raise UserError(f"{val / unknown[0]}: is no class of {train} ({_some(classes)})")
    others = Counter()
    parts = {part: _find(part, classes, others) for part in filter(None, (train, val))}
    bad = _bad([path for paths, _ in parts.values() for path in paths])
    if bad:
        names = "; ".join(f"{path.relative_to(folder)} ({fault})" for path, fault in list(bad.items())[:5])
        more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
        line = f"{folder}: {len(bad)} of its images cannot be read: {names}{more}"
        if not skip_bad_images:
            raise UserError(f"{line}; mend or remove them, or pass --skip_bad_images")
        print(printable(f"warning: {line}; they are left out"), flush=True)
    found = [_images(part, part == train, classes, *parts[part], bad) for part in parts]
    tested = found[1] if val else FolderImages((), np.zeros(0, np.int64))
    if others:
        print(f"note: {printable(folder)}: left out of its class folders: {_counted(others)}; images end in "
              f"{', '.join(ENDINGS)}", flush=True)
    name = os.fsencode(folder.resolve().name).decode(errors="replace")
    return DataPair(None, Dataset(name, classes, found[0], tested), *OF_DATA["folder"], hflip=True)


def read(path: Path) -> np.ndarray:
    """Read one image as RGB.

    Returns:
        uint8 [h, w, 3].

    Raises:
        UserError: It cannot be read; the message names it.
    """
    image, fault = attempt(path)
    if fault is not None:
        raise UserError(f"{path}: {fault}; mend or remove it, or pass --skip_bad_images")
    return image


def attempt(path: Path) -> tuple[np.ndarray | None, str | None]:
    """Read one image as RGB.

    Returns:
        The image, uint8 [h, w, 3], and None; or None, and why it cannot be read.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # opening a pipe would wait for ever
        return None, "not a file"
    return decode(path)


def decode(file: Path | BinaryIO) -> tuple[np.ndarray | None, str | None]:
    """Read one image as RGB from a regular file, or from its bytes; returns what `attempt` returns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of large and of odd files
        try:
            with Image.open(file, formats=FORMATS) as image:
                return rgb(image), None
        except FAULTS as error:
            return None, _fault(error)


def rgb(image: Image.Image) -> np.ndarray:
    """Give an image's pixels, uint8 [h, w, 3], upright, on white where it is transparent."""
    return np.asarray(_rgb(ImageOps.exif_transpose(image)))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # 16 bits a pixel, and Pillow would cut them off at 255
        values = np.asarray(image, np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it has pixels that are no finite numbers")
        top = 65535 if values.max() > 255 else 255
        image = Image.fromarray(np.clip(np.round(values * 255 / top), 0, 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


FAULTS = (OSError, SyntaxError, ValueError, EOFError, MemoryError, OverflowError, Image.DecompressionBombError)


def _fault(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return NO_IMAGE
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = one_line(error, 100)
    return text if any(map(str.isalpha, text)) else "damaged"  # Pillow's decoders know numbers alone


def _subfolders(folder: Path) -> tuple[str, ...]:
    """The names of a folder's folders, sorted. They are UTF-8, whatever the locale takes them for."""
    try:
        names = [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); --data folder reads DIR/train/<class>/ and "
                        "DIR/val/<class>/, or with --val_fraction the first alone") from None
    for name in names:
        try:
            os.fsencode(name).decode()
        except UnicodeDecodeError:
            raise UserError(f"{folder}: the name of the class folder {name!a} is not UTF-8; rename it") from None
    return tuple(sorted(os.fsencode(name).decode() for name in names))


def _find(folder: Path, classes: tuple[str, ...], others: Counter) -> tuple[list[Path], list[int]]:
    """The images of every class, in the order of their names, with their labels; count what is left out."""
    paths, labels = [], []
    for label, name in enumerate(classes):
        place = folder / os.fsdecode(name.encode())
        if place.is_dir():
            found = []
            try:
                for entry in os.scandir(place):
                    if entry.name.startswith(".") or entry.name.lower() in _OF_FILE_MANAGERS:
                        continue
                    if entry.name.lower().endswith(ENDINGS):
                        found.append(Path(entry))
                    else:
                        others["folder" if entry.is_dir() else "file"] += 1
            except OSError as error:
                raise UserError(f"{place}: cannot be read ({error.strerror})") from None
            paths += sorted(found)
            labels += [label] * len(found)
    return paths, labels


def _counted(others: Counter) -> str:
    """What was left out, as in "12 files of other kinds and 1 folder"."""
    nouns = {"file": ("file of another kind", "files of other kinds"), "folder": ("folder", "folders")}
    return " and ".join(f"{others[kind]:,} {nouns[kind][others[kind] > 1]}" for kind in nouns if others[kind])


def _images(folder: Path, trains: bool, classes: tuple[str, ...], paths: list[Path], labels: list[int],
            bad: dict[Path, str]) -> FolderImages:
    kept = [(path, label) for path, label in zip(paths, labels, strict=True) if path not in bad]
    empty = absent(classes, {label for _, label in kept})
    if not kept or (trains and empty):
        culprit = folder / empty[0] if trains else folder
        raise UserError(f"{culprit}: holds no image that can be read; images end in {', '.join(ENDINGS)}")
    tell_absent(folder, classes, empty)
    return FolderImages(tuple(path for path, _ in kept), np.array([label for _, label in kept], np.int64))


def absent(classes: tuple[str, ...], present: set[int]) -> list[str]:
    """Name the classes whose labels are not present."""
    return [name for label, name in enumerate(classes) if label not in present]


def tell_absent(place: object, classes: tuple[str, ...], empty: list[str]) -> None:
    """Print a line where there is no image of some classes in the part of a set that is at a place."""
    if empty:
        print(printable(f"warning: {place}: no image of {_some(tuple(empty))}: accuracy is over the other "
                        f"{len(classes) - len(empty)} classes"), flush=True)


def _bad(paths: list[Path]) -> dict[Path, str]:
    """The images that cannot be read, each with its fault; shows a progress bar."""
    from tqdm import tqdm
    Image.init()  # before all the threads do it at once
    check = _decode if len(paths) <= _MAX_DECODED else _glance
    shown = terminal.width(sys.stderr) is not None
    with (open(os.dup(2), "w") as out, quiet_stderr(show_on_failure=False),  # libtiff writes there by itself
          warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool):
        warnings.simplefilter("ignore")
        faults = tqdm(pool.map(functools.partial(_look, check=check), paths), total=len(paths),
                      desc="checking images", unit="", file=out, disable=not shown)
        return {path: fault for path, fault in zip(paths, faults, strict=True) if fault}


def _look(path: Path, check: Callable[[Path], str | None]) -> str | None:
    """The fault of an image, or None. A pipe is no file: opening it would wait for ever."""
    return check(path) if os.path.isfile(path) or not os.path.exists(path) else "not a file"


def _decode(path: Path) -> str | None:
    """The fault of an image, or None; a JPEG is decoded at an eighth of its size, for which all of it is read."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            image.draft("RGB", (1, 1))
            image.load()
            if image.mode.startswith("F"):  # the only kind that has NaN
                _rgb(image)
    except FAULTS as error:
        return _fault(error)
    return None


def _glance(path: Path) -> str | None:
    """The fault of an image's header, or None; an image that does not end as its format does is decoded whole."""
    ends = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b";"}
    try:
        with Image.open(path, formats=FORMATS) as image, open(path, "rb") as file:
            end = ends.get(image.format)
            file.seek(-min(8, os.path.getsize(path)), os.SEEK_END)
            if end and file.read().endswith(end):
                return None
    except FAULTS as error:
        return _fault(error)
    return _decode(path)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
