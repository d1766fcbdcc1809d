"""Write files whole or not at all."""
import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vit.errors import UserError
from vit.files.kinds import other_kind


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a file to write in such a way that nobody ever finds a part of it under its name.

    The data goes into a temporary file beside it; once it is on the disk, that file gets the name. A crash leaves what
    was there before. A file that was there keeps its mode, and a new one gets that of any new file (0666 without the
    umask). What a symbolic link refers to is replaced, and the link stays. The null device takes the data as ever.

    Raises:
        UserError: The path is a folder, a pipe, a socket, a device, or an open file of a process (/dev/stdout).
        OSError: It cannot be written; what was there is as it was, and the temporary file is gone. The error's
            `filename` is the path.
    """
    path = os.fspath(path)
    if os.path.exists(path) and os.path.samefile(path, os.devnull):
        with open(path, "wb") as file:
            yield file
        return
    target = _target(path)
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{name[:40]}.{secrets.token_hex(4)}")  # a longer name could be too long
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileNotFoundError):
                os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        handle = os.open(folder or os.curdir, os.O_RDONLY)
        try:
            os.fsync(handle)  # the rename, too
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno is None or error.filename not in (None, temporary):
            raise
        # The error of a full disk names no file, and nobody knows the temporary one.
        raise OSError(error.errno, error.strerror, path) from None


def _target(path: str) -> str:
    """The regular file or new name that a path refers to."""
    kind, name = other_kind(path), path
    while kind is None and os.path.islink(name):
        folder = os.path.realpath(os.path.dirname(name))
        if folder.startswith("/proc/"):
            kind = "an open file of a process"
        name = os.path.join(folder, os.readlink(name))
    if kind is not None:
        raise UserError(f"{path}: is {kind}; name a regular file to write, or a new one")
    return name


def remove_parts(folder: str | os.PathLike) -> None:
    """Remove the temporary files that `whole_file` left in a folder when its process was killed (safetensors only)."""
    for path in Path(folder).glob(".*.safetensors.*"):
        path.unlink(missing_ok=True)


def write_whole(path: str | os.PathLike, data: bytes) -> None:
    """Write data into a file, whole or not at all.

    Raises:
        UserError: The path is no file, as `whole_file` says.
        OSError: It cannot be written; what was there is as it was. The error's `filename` is the path.
    """
    with whole_file(path) as file:
        file.write(data)
