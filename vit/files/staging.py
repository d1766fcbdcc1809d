"""Let other programs write files and folders that nobody finds before they are whole and were looked at."""
import contextlib
import os
import secrets
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from vit.errors import UserError
from vit.files.kinds import other_kind


@contextlib.contextmanager
def staged(path: str | os.PathLike) -> Iterator[Path]:
    """Give another name to write to; what is there when the block ends gets the name that was asked for.

    It is in a hidden folder beside the path, which is removed in any case, also where the process is asked to end. If
    the block raises, what was there is as it was. A file that was there is replaced; a folder is not, for that cannot
    be done at once.

    Args:
        path: A file, or a folder. The name to write to ends as it does.

    Raises:
        UserError: There is a folder, or a device, or such; or nothing can be written there.
    """
    path = Path(os.path.realpath(path))
    if kind := other_kind(path):
        raise UserError(f"{path}: is {kind} that is there already; name another, or remove it first")
    hidden = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}")
    with _ending_in_order():
        try:
            try:
                hidden.mkdir()
            except OSError as error:
                raise UserError(f"{path}: cannot be written ({error.strerror})") from None
            inside = hidden / f"exported{path.suffix}"
            yield inside
            for one in (*inside.rglob("*"), inside, hidden):
                _finish(one)
            os.replace(inside, path)
            _finish(path.parent)
        finally:
            with _undisturbed():
                shutil.rmtree(hidden, ignore_errors=True)


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let the signals that would end the process at once end it by an exception, with the status that they stand for.

    Where someone else handles them, or has them ignored, and in other threads than the first, they are left alone.
    """
    def end(number, _):
        raise SystemExit(128 + number)

    first = threading.current_thread() is threading.main_thread()
    taken = [number for number in (signal.SIGTERM, signal.SIGHUP)
             if first and signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Let signals wait until the block is over."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
