"""Write files whole or not at all."""
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a file to write in such a way that nobody ever finds a part of it under its name.

    The data goes into a temporary file beside it; once it is on the disk, that file gets the name. A crash leaves what
    was there before.

    Raises:
        OSError: It cannot be written; what was there is as it was, and the temporary file is gone.
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
    """Remove the temporary files that `whole_file` left in a folder when its process was killed (safetensors only)."""
    for path in Path(folder).glob(".*.safetensors.*"):
        path.unlink(missing_ok=True)


def write_whole(path: str | os.PathLike, data: bytes) -> None:
    """Write data into a file, whole or not at all.

    Raises:
        OSError: It cannot be written; what was there is as it was.
    """
    with whole_file(path) as file:
        file.write(data)
