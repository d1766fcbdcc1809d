"""Write a folder of images as shards: a few tar files in webdataset's layout, and an index of them."""
import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vit.data import file_hashes, image_folder
from vit.data.download import sha256
from vit.data.image_folder import FolderImages
from vit.data.shard_index import INDEX, Index, Part, Shard, dump
from vit.errors import UserError
from vit.files.atomic import whole_file, write_whole


def make(source: Path, folder: Path, per_shard: int, skip_bad_images: bool = False) -> Index:
    """Write a folder's images as shards, in the order that they have in the folder; the index comes last.

    Image n of a part is the member `n.jpg` (with its own ending), whose label is in `n.cls`. The same images give the
    same bytes.

    Args:
        source: A folder of images, as `vit.data.image_folder.load` reads it.
        folder: Where the shards go; made if need be.
        per_shard: Images of a shard.
        skip_bad_images: Whether to leave out the images that cannot be read.

    Returns:
        The index.

    Raises:
        UserError: The images cannot be read, there are shards in the folder, or it cannot be written.
    """
    if per_shard < 1:
        raise UserError(f"--per_shard must be at least 1, not {per_shard}")
    if (folder / INDEX).exists():
        raise UserError(f"{folder}: holds {INDEX}, of other shards: name another folder")
    dataset = image_folder.load(source, skip_bad_images).finetune
    classes = len(dataset.classes)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        parts = {name: Part(file_hashes.contents(images.paths, images.labels, classes),
                            list(_shards(folder, name, images, per_shard)))
                 for name, images in (("train", dataset.train), ("val", dataset.test))}
        index = Index(dataset.name, list(dataset.classes), parts)
        write_whole(folder / INDEX, dump(index))
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror}; no shards were made") from None
    return index


def _shards(folder: Path, part: str, images: FolderImages, per_shard: int) -> Iterator[Shard]:
    """Write a part of the set, shard by shard."""
    from tqdm import tqdm
    with tqdm(total=len(images), desc=f"writing {part}", unit="", disable=None) as bar:
        for number, first in enumerate(range(0, len(images), per_shard)):
            path = folder / f"{part}-{number:06d}.tar"
            indices = range(first, min(first + per_shard, len(images)))
            offsets, sizes, sums = [], [], []
            with whole_file(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
                for index in indices:
                    image, data = images.paths[index], images.paths[index].read_bytes()
                    _add(archive, f"{index:09d}{image.suffix.lower()}", data)
                    offsets.append(archive.offset - -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
                    sizes.append(len(data))
                    sums.append(zlib.crc32(data))
                    _add(archive, f"{index:09d}.cls", str(images.labels[index]).encode())
                    bar.update()
            yield Shard(path.name, os.path.getsize(path), sha256(path),
                        [os.fsencode(images.paths[index].name).decode(errors="surrogateescape") for index in indices],
                        images.labels[first:indices.stop], np.array(offsets), np.array(sizes), np.array(sums))


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
