"""Files that are written whole or not at all."""
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file to write so that its name never stands for a part of it, whatever happens meanwhile.

    The data goes to a temporary file beside it, to the disk, and then under its name; a crash leaves the old file (or
    none) there.

    Raises:
        OSError: It cannot be written; the old file is as it was, and no other one stays.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename, too
    finally:
        os.close(folder)


def remove_parts(folder: str | os.PathLike) -> None:
    """Remove the safetensors files that `whole_file` had begun in a folder when its process was killed."""
    for path in Path(folder).glob(".*.safetensors.*"):
        path.unlink(missing_ok=True)


def write_whole(path: str | os.PathLike, data: bytes) -> None:
    """Write data as a `whole_file`."""
    with whole_file(path) as file:
        file.write(data)
