"""`--data folder`, in shards: a folder of images as a few tar files, of which an image is read when it is needed.

The files have webdataset's layout: for each image a member `KEY.jpg`, and a member `KEY.cls` with its label.
`shards.json` beside them says where each image lies (`vit.data.shard_index`). An image has the place, the label and the
bytes that it has in the folder, so batches are the same, and so is the fingerprint: a run that began with one goes on
with the other.

In memory a process holds 28 bytes for each image of the set, and the images of its batch. The index takes more while it
is read, at most 8 bytes for each of its own.
"""
import io
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vit.data import file_hashes, image_folder
from vit.data.sets import OF_DATA, DataPair, Dataset
from vit.data.shard_index import INDEX, Index, Part, parse
from vit.errors import UserError, printable
from vit.files.kinds import check_file
from vit.remote import cache
from vit.remote.address import Address


@dataclass(frozen=True)
class LocalShards:
    """Shards in a folder.

    Args:
        folder: Where they are.
    """
    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    def index(self) -> bytes:
        """Read the index."""
        path = self.folder / INDEX
        try:
            check_file(path)
            return path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None

    def path(self, file: str, size: int, sha256: str) -> Path:
        """Give a shard's file."""
        return self.folder / file

    def check(self, index: Index) -> None:
        """Refuse shards that are not there, or not of their size.

        Raises:
            UserError: One of them.
        """
        for shard in (shard for part in index.parts.values() for shard in part.shards):
            path = self.folder / shard.file
            try:
                check_file(path)
                size = os.stat(path).st_size
            except OSError as error:
                raise UserError(f"{path}: cannot be read ({error.strerror}), and {INDEX} lists it") from None
            if size != shard.size:
                raise UserError(f"{path}: has {size:,} bytes, and by {INDEX} it has {shard.size:,}: copy it again, or "
                                "make the shards again")


@dataclass(frozen=True)
class RemoteShards:
    """Shards at an address; each is read into the cache when an image in it is asked for first, and held to its sum.

    Args:
        address: Where they are.
    """
    address: Address

    def __str__(self) -> str:
        return str(self.address)

    def index(self) -> bytes:
        """Read the index."""
        return cache.local(self.address / INDEX).read_bytes()

    def path(self, file: str, size: int, sha256: str) -> Path:
        """Give a shard's file."""
        return cache.summed(self.address / file, size, sha256)

    def check(self, index: Index) -> None:
        """Refuse nothing: shards are looked at when they are read."""


@dataclass(frozen=True)
class ShardImages:
    """Labelled images of any size, each read from its shard when it is asked for; the counterpart of `FolderImages`.

    Args:
        place: Where the shards are.
        shards: Name, size and sha256 of each.
        labels: int64 [n], in 0..len(classes)-1.
        places: Which shard each image is in, int32 [n].
        offsets: Where its bytes begin there, int64 [n].
        sizes: How many there are, int32 [n].
        crc32: Their sum, uint32 [n].
        described: What the fingerprint says of the folder's files, or None of a part of them.
    """
    place: LocalShards | RemoteShards
    shards: tuple[tuple[str, int, str], ...]
    labels: np.ndarray
    places: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    crc32: np.ndarray
    described: dict | None = None
    image_size = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> np.ndarray:
        image, fault = image_folder.decode(io.BytesIO(self.read(index)))
        if fault is not None:
            raise UserError(f"{self.place}: {self._named(index)}: {fault}")
        return image

    def take(self, indices: np.ndarray) -> "ShardImages":
        """Return some of the images, in the order of the indices."""
        columns = (column[indices] for column in (self.labels, self.places, self.offsets, self.sizes, self.crc32))
        return ShardImages(self.place, self.shards, *columns)

    def read(self, index: int) -> bytes:
        """Read the bytes of one image's file.

        Raises:
            UserError: They cannot be read, or are not those that were written.
        """
        path = self.place.path(*self.shards[self.places[index]])
        size = int(self.sizes[index])
        try:
            with open(path, "rb", buffering=0) as file:
                data = os.pread(file.fileno(), size, int(self.offsets[index]))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        if len(data) != size or zlib.crc32(data) != self.crc32[index]:
            raise UserError(f"{self.place}: {self._named(index)} is not what it was when the shards were made: copy "
                            "that file again, or make the shards again")
        return data

    def _named(self, index: int) -> str:
        """Where an image lies, in words."""
        return f"the image at byte {self.offsets[index]:,} of {self.shards[self.places[index]][0]}"


def load(place: LocalShards | RemoteShards, skip_bad_images: bool = False) -> DataPair:
    """Read the index of a set in shards; there is no set to pretrain on.

    Args:
        place: Where it is.
        skip_bad_images: As for a folder; there are none in shards.

    Raises:
        UserError: The index or a shard is not what it should be.
    """
    index = parse(place.index(), f"{place}/{INDEX}")
    place.check(index)
    if skip_bad_images:
        print("note: skip_bad_images is ignored: shards hold only images that could be read", flush=True)
    classes = tuple(index.classes)
    parts = {name: _images(place, part, len(classes)) for name, part in index.parts.items()}
    for name, images in parts.items():
        empty = image_folder.absent(classes, set(np.unique(images.labels).tolist()))
        if name == "train" and empty:
            raise UserError(f"{place}: no image of {printable(empty[0])} to train on")
        image_folder.tell_absent(f"{place}: {name}", classes, empty)
    return DataPair(None, Dataset(index.name, classes, parts["train"], parts["val"]), *OF_DATA["folder"], hflip=True)


def _images(place: LocalShards | RemoteShards, part: Part, classes: int) -> ShardImages:
    shards = part.shards
    labels, offsets, sizes, crc32 = (np.concatenate([getattr(shard, name) for shard in shards])
                                     for name in ("labels", "offsets", "sizes", "crc32"))
    names = [name.encode(errors="surrogateescape") for shard in shards for name in shard.names]
    described = file_hashes.named(names, sizes, labels, classes) | {"contents": part.contents}
    places = np.repeat(np.arange(len(shards), dtype=np.int32), [len(shard.labels) for shard in shards])
    return ShardImages(place, tuple((shard.file, shard.size, shard.sha256) for shard in shards), labels, places,
                       offsets, sizes.astype(np.int32), crc32, described)
