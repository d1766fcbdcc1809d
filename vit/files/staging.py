"""Let other programs write files and folders that nobody finds before they are whole and were looked at."""
import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from vit.errors import UserError
from vit.files.kinds import other_kind


@contextlib.contextmanager
def staged(path: str | os.PathLike) -> Iterator[Path]:
    """Give another name to write to; what is there when the block ends gets the name that was asked for.

    It is in a hidden folder beside the path, which is removed in any case. If the block raises, what was there is as
    it was. A file that was there is replaced; a folder is not, for that cannot be done at once.

    Args:
        path: A file, or a folder. The name to write to ends as it does.

    Raises:
        UserError: There is a folder, or a device, or such; or nothing can be written there.
    """
    path = Path(os.path.realpath(path))
    if kind := other_kind(path):
        raise UserError(f"{path}: is {kind} that is there already; name another, or remove it first")
    hidden = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}")
    try:
        hidden.mkdir()
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None
    try:
        inside = hidden / f"exported{path.suffix}"
        yield inside
        for one in (*inside.rglob("*"), inside, hidden):
            _finish(one)
        os.replace(inside, path)
        _finish(path.parent)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _finish(path: Path) -> None:
    """Bring a file or a folder to the disk; a file gets the mode of any new one."""
    if path.is_file():
        os.umask(mask := os.umask(0))
        path.chmod(0o666 & ~mask)
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
