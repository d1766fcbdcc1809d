"""`--data arrays`: images and labels that are given from Python, or that lie in a .npz file.

From Python a set is one of

    (images, labels), or {"images": images, "labels": labels, "classes": names}
    a dataset of Hugging Face, with a column of images and one of labels

Images are uint8 [n, h, w, 3], or grey [n, h, w] or [n, h, w, 1], or a list in which each is a path, a PIL image or an
array, uint8 [h, w, 3] or grey [h, w]. Labels are whole numbers from 0, or names, [n] or [n, 1].

A .npz file has train_images and train_labels, perhaps test_images and test_labels, and perhaps the names of the
classes as "classes"; or, as Keras has them, x_train, y_train, x_test and y_test.

Images of one size, with equal edges, are held in memory, and trained on as they are; others are read one by one when
needed, and cropped as a folder's are.
"""
import os
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from PIL import Image

from vit import memory
from vit.data import image_folder
from vit.data.sets import OF_DATA, DataPair, Dataset, Images
from vit.errors import UserError, one_line, printable
from vit.files.kinds import check_file
from vit.files.untrusted import listed, reading
from vit.files.zip_directory import check_directory

NAME = "arrays"
_TRAIN, _TEST = "train_dataset", "eval_dataset"
_IN_FILES = (("train_images", "train_labels", "test_images", "test_labels"), ("x_train", "y_train", "x_test", "y_test"))
_MOST_BYTES = 1 << 30  # of images that are read one by one and then held in memory
# What the columns of Hugging Face's sets are called, where several could be meant.
_IMAGE_COLUMNS, _LABEL_COLUMNS = ("image", "img", "images"), ("label", "labels", "fine_label")
_FORMS = "(images, labels), a dict of images, labels and classes, or a dataset of Hugging Face"


@dataclass(frozen=True, slots=True)
class EachImage:
    """Labelled images of any size, each read from what was given when it is asked for, as in `FolderImages`.

    Args:
        title: What they are called in messages.
        items: The images; or rows, of which one column is the image.
        column: Which column; None where the items are the images.
        places: Which items, int64 [n].
        labels: int64 [n], in 0..len(classes)-1.
    """
    title: str
    items: Sequence
    column: str | None
    places: np.ndarray
    labels: np.ndarray
    image_size = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> np.ndarray:
        place = int(self.places[index])
        try:
            item = self.items[place]
            return pixels(item if self.column is None else item[self.column])
        except Exception as error:  # a library reads it: it raises whatever comes
            raise UserError(f"{self.title}: image {place}: {one_line(error)}") from None

    def take(self, indices: np.ndarray) -> "EachImage":
        """Return some of the images, in the order of the indices."""
        return EachImage(self.title, self.items, self.column, self.places[indices], self.labels[indices])


def pixels(image: object) -> np.ndarray:
    """Give the pixels of an image: uint8 [h, w, 3].

    Args:
        image: A path, a PIL image, or an array, uint8 [h, w, 3] or, of a grey one, [h, w] or [h, w, 1].

    Raises:
        UserError: It is none of that, or cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        found, fault = image_folder.attempt(Path(image))
        if fault is not None:
            raise UserError(f"{image}: {fault}")
        return found
    if isinstance(image, Image.Image):
        return image_folder.rgb(image)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.size:
        if image.ndim == 3 and image.shape[2] == 3:
            return image
        if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
            return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    what = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
    raise UserError(f"an image is a path, a PIL image, or an array, uint8 [h, w, 3] or [h, w], not {what}")


def load(train: object, test: object = None, untested: bool = False) -> DataPair:
    """Make a set of what was given; there is no set to pretrain on.

    Args:
        train: The images to train on, in one of the forms above.
        test: Those to test on, likewise; or None.
        untested: Whether there may be none to test on.

    Raises:
        UserError: One of them has another form, or they have other classes.
    """
    images, labels, names = _parts(train, _TRAIN)
    tested = None if test is None else _parts(test, _TEST)
    if tested is None and not untested:
        raise UserError("there are no images to evaluate on: give an eval_dataset too (or test_images, in a .npz "
                        "file), or set a tenth of the training images apart with val_fraction=0.1")
    classes = _classes(labels, names, _TRAIN) if tested is None or tested[2] is None else tested[2]
    if names is not None and classes != names:
        raise UserError(f"{_TRAIN} and {_TEST} have other classes: {listed(names)}, and {listed(classes)}")
    numbers = _numbers(labels, classes, _TRAIN)
    if len(classes) < 2:
        raise UserError(f"{_TRAIN}: has {len(classes)} class, and two at least are needed")
    image_folder.tell_absent(_TRAIN, classes, image_folder.absent(classes, set(numbers.tolist())))
    trained = _images(images, numbers, _TRAIN)
    if tested is None:
        found = trained.take(np.zeros(0, np.int64))
    else:
        numbers = _numbers(tested[1], classes, _TEST)
        image_folder.tell_absent(_TEST, classes, image_folder.absent(classes, set(numbers.tolist())))
        found = _images(tested[0], numbers, _TEST)
    return DataPair(None, Dataset(NAME, classes, trained, found), *OF_DATA[NAME], hflip=True)


def labelled(given: object, classes: tuple[str, ...], title: str) -> Images | EachImage:
    """Make images of known classes of what was given.

    Args:
        given: In one of the forms above.
        classes: The names of the classes, in the order of the labels.
        title: What the images are called in messages.

    Raises:
        UserError: It has another form, or other classes.
    """
    images, labels, names = _parts(given, title)
    if names is not None and names != classes:
        raise UserError(f"{title}: its classes are {listed(names)}, and the model's are {listed(classes)}")
    return _images(images, _numbers(labels, classes, title), title)


def read(path: str | os.PathLike | None) -> tuple[dict, dict | None]:
    """Read a .npz file: what to train on, and what to test on, or None.

    Raises:
        UserError: It is none, or lacks images or labels.
    """
    if path is None:
        raise UserError("data 'arrays' needs --data_dir, a .npz file with train_images and train_labels; or, from "
                        "Python, train_dataset=(images, labels)")
    with reading(path, ".npz file"):
        check_file(path)
        check_directory(path)
        with ZipFile(path) as archive:
            memory.check_room(sum(info.file_size for info in archive.infolist()), str(path), "take fewer images")
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files if name in ("classes", *sum(_IN_FILES, ()))}
    wanted = next((names for names in _IN_FILES if names[0] in found), _IN_FILES[0])
    if missing := [name for name in wanted[:2] if name not in found]:
        raise UserError(f"{path}: holds no {missing[0]}; it needs {' and '.join(_IN_FILES[0][:2])}")
    parts = [{"images": found[images], "labels": found[labels], "classes": found.get("classes")}
             if images in found and labels in found else None for images, labels in (wanted[:2], wanted[2:])]
    return parts[0], parts[1]


def _parts(given: object, title: str) -> tuple[object, np.ndarray, tuple[str, ...] | None]:
    """The images, the labels as an array [n], and the classes' names, where there are names."""
    if hasattr(given, "column_names") or hasattr(given, "features"):
        images, labels, names = _of_hugging_face(given, title)
    elif isinstance(given, Mapping) and {"images", "labels"} <= set(given) <= {"images", "labels", "classes"}:
        images, labels, names = given["images"], given["labels"], given.get("classes")
    elif isinstance(given, tuple | list) and len(given) == 2:
        (images, labels), names = given, None
    else:
        raise UserError(f"{title} is {_FORMS}, not {_shown(given)}")
    try:
        labels = np.asarray(labels)
    except ValueError:  # lists of other lengths
        labels = np.array(None)
    if labels.ndim and not len(labels):
        raise UserError(f"{title}: is empty")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise UserError(f"{title}: labels are whole numbers or names, [n], not {labels.dtype} {list(labels.shape)}")
    if not hasattr(images, "__len__") or len(images) != len(labels):
        count = len(images) if hasattr(images, "__len__") else "no"
        raise UserError(f"{title}: has {count} images and {len(labels)} labels")
    names = None if names is None else tuple(map(str, names))
    if names is not None and len(set(names)) != len(names):
        raise UserError(f"{title}: two of its classes have one name: {listed(names)}")
    return images, labels, names


def _shown(given: object) -> str:
    if isinstance(given, np.ndarray):
        return f"an array, {given.dtype} {list(given.shape)}"
    return printable(reprlib.repr(given)) if isinstance(given, str | int | float | None) else type(given).__name__


def _of_hugging_face(rows, title: str) -> tuple[object, object, object]:
    if isinstance(rows, Mapping):
        raise UserError(f"{title}: holds several sets ({listed(rows)}): give one of them, as dataset['train'] is")
    if not hasattr(rows, "__len__") or getattr(rows, "features", None) is None:
        raise UserError(f"{title}: a set that is streamed has no length: load it without streaming=True")
    features, rows = rows.features, rows.with_format(None)
    image = _column(features, "Image", _IMAGE_COLUMNS, title)
    label = _column(features, "ClassLabel", _LABEL_COLUMNS, title)
    labels = rows[label][:]
    return _Rows(rows.select_columns([image]), image), labels, getattr(features[label], "names", None)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows, of which one column is the image."""
    rows: Sequence
    column: str

    def __len__(self) -> int:
        return len(self.rows)


def _column(features: Mapping, kind: str, names: tuple[str, ...], title: str) -> str:
    """The column of a kind: by the class of its feature, or else by its name."""
    found = [name for name, feature in features.items() if type(feature).__name__ == kind]
    known = [name for name in names if name in (found or features)]
    if len(found) != 1 and not known:
        what = "image" if kind == "Image" else "label"
        raise UserError(f"{title}: it is not clear which of its columns ({listed(features)}) has the {what}: call that "
                        f"one {names[0]!r} (rename_column)")
    return found[0] if len(found) == 1 else known[0]


def _classes(labels: np.ndarray, names: tuple[str, ...] | None, title: str) -> tuple[str, ...]:
    """The names of the classes; numbers, where there are no names."""
    if names is not None:
        return names
    if labels.dtype.kind == "U":
        return tuple(np.unique(labels).tolist())
    present = np.unique(labels)
    if present[0] != 0 or present[-1] != len(present) - 1:
        raise UserError(f"{title}: labels must be 0, 1, 2 and so on, each with an image, not {listed(present)}; or "
                        "name the classes: {'images': ..., 'labels': ..., 'classes': [...]}")
    return tuple(map(str, range(len(present))))


def _numbers(labels: np.ndarray, classes: tuple[str, ...], title: str) -> np.ndarray:
    """Labels as int64 [n]."""
    if labels.dtype.kind == "U":
        if unknown := sorted(set(labels.tolist()) - set(classes)):
            raise UserError(f"{title}: {listed(unknown)} is none of the classes ({listed(classes)})")
        place = {name: label for label, name in enumerate(classes)}
        return np.array([place[name] for name in labels.tolist()], np.int64)
    if labels.min() < 0 or labels.max() >= len(classes):
        raise UserError(f"{title}: labels must be 0 to {len(classes) - 1}, found {labels.min()} to {labels.max()}")
    return labels.astype(np.int64)


def _images(images: object, labels: np.ndarray, title: str) -> Images | EachImage:
    if isinstance(images, np.ndarray) and images.dtype != object:
        return _of_array(images, labels, title)
    rows, column = (images.rows, images.column) if isinstance(images, _Rows) else (images, None)
    each = EachImage(title, rows, column, np.arange(len(labels)), labels)
    first = each[0]
    size = first.shape[0]
    if first.shape != (size, size, 3) or first.nbytes * len(labels) > _MOST_BYTES:
        return each
    together = np.empty((len(labels), *first.shape), np.uint8)
    for index in range(len(labels)):
        image = each[index]
        if image.shape != first.shape:
            return each
        together[index] = image
    return Images(together, labels)


def _of_array(images: np.ndarray, labels: np.ndarray, title: str) -> Images | EachImage:
    what = f"{title}: images are uint8 [n, h, w, 3], of 0 to 255, not {images.dtype} {list(images.shape)}"
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
        raise UserError(f"{what}: channels come last, as images.transpose(0, 2, 3, 1) has them")
    if images.dtype != np.uint8:
        way = "multiply those of 0 to 1 by 255, and take .astype(np.uint8)" if images.dtype.kind == "f" else (
            "take .astype(np.uint8)")
        raise UserError(f"{what}: {way}")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3) or not images.size:
        raise UserError(what)
    if images.shape[3] == 1:
        images = np.repeat(images, 3, axis=3)
    if images.shape[1] != images.shape[2]:
        return EachImage(title, images, None, np.arange(len(labels)), labels)
    return Images(np.ascontiguousarray(images), labels)
