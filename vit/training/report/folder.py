"""The folder of a run's files: one run at a time, and nothing of another run beside them."""
import contextlib
import fcntl
import itertools
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from vit.errors import UserError

LOCK = ".lock"


@contextlib.contextmanager
def own_folder(folder: Path, resuming: bool = False, overwrite: bool = False) -> Iterator[None]:
    """Make the folder for a run's files, and keep other runs out of it while the block runs.

    Its folder `checkpoints` may be a link, as to another disk, and stays one; so does what `checkpoints.old` is.

    The lock is released by the kernel when the process ends, however it ends; the file says who has it.

    Args:
        folder: Where it is.
        resuming: Whether the run goes on with the one in the folder.
        overwrite: Whether a run that lies in the folder is moved aside, whole, to a name with `.old` behind it.

    Raises:
        UserError: The folder cannot be made or written, another run is writing there, or one lies there.
    """
    probe(folder, "model_dir")
    lock = _lock(folder)
    try:
        if not resuming and (file := _trace_of_a_run(folder)):
            if not overwrite:
                raise UserError(f"{folder}: holds {file}, of another run: go on with that run (--resume auto), name "
                                "another --model_dir, or pass --overwrite, which moves it aside")
            old = _move_aside(folder)
            print(f"note: what was in {folder} is now in {old}", flush=True)
            os.unlink(old / LOCK)
            folder.mkdir(exist_ok=True)  # a run that starts at this moment may have made it
            moved, lock = lock, _lock(folder)
            os.close(moved)
        place = folder / "checkpoints"
        if os.path.lexists(place) and not place.is_dir():
            what = f"a link to {os.readlink(place)}, which is no folder" if place.is_symlink() else "no folder"
            raise UserError(f"{place}: is {what}; put that right, or name another --model_dir")
        (folder / "results.json").unlink(missing_ok=True)  # of the run as it was; it is written last
        yield
    finally:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(lock), os.stat(folder / LOCK)):
                os.unlink(folder / LOCK)
        os.close(lock)


def _lock(folder: Path) -> int:
    """Lock a folder; return the descriptor that holds the lock until it is closed."""
    path = folder / LOCK
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _owner(lock)
            os.close(lock)
            raise UserError(f"{folder}: another run is writing there ({owner}): wait for its end, or name another "
                            "--model_dir") from None
        # Its last owner may have removed the file between the two calls: then it locks nobody out.
        if path.exists() and os.path.samestat(os.fstat(lock), os.stat(path)):
            os.ftruncate(lock, 0)
            os.write(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            return lock
        os.close(lock)


def _owner(lock: int) -> str:
    """Name the process that holds a lock, which writes its name right after it has locked the file."""
    for _ in range(100):
        if name := os.pread(lock, 200, 0).decode(errors="replace").strip():
            return name
        time.sleep(0.01)
    return "which is just beginning"


def _trace_of_a_run(folder: Path) -> str | None:
    """Name a file in a folder that a run has left there; None where there is none."""
    for name in ("results.json", "recipe.yaml"):
        if (folder / name).exists():
            return name
    for name in ("checkpoints", "checkpoints.old"):  # empty ones, or links to such, may be there before a run is
        if (folder / name).is_dir() and any((folder / name).iterdir()):
            return name
    return next((path.name for path in folder.glob("*.safetensors")), None)


def _move_aside(folder: Path) -> Path:
    """Rename a folder to the first free name with `.old`, `.old2` and so on behind it."""
    for number in itertools.count(1):
        old = folder.with_name(f"{folder.name}.old{number if number > 1 else ''}")
        if not os.path.lexists(old):
            try:
                folder.rename(old)
            except OSError as error:
                raise UserError(f"{folder}: cannot be moved to {old} ({error.strerror}); move it yourself, or name "
                                "another --model_dir") from None
            return old


def probe(folder: Path, flag: str) -> None:
    """Make a folder if need be, and see that it can be written.

    Args:
        folder: Where it is.
        flag: Which flag says so.

    Raises:
        UserError: It cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f".probe-{os.getpid()}"
        file.touch()
        file.unlink()
    except OSError as error:
        why = "it is a file" if isinstance(error, FileExistsError) else error.strerror
        raise UserError(f"{folder}: {flag} cannot be written ({why}); choose another --{flag}") from None


def unused(folder: Path) -> Path:
    """Make a folder that no other run has, by this name or with -2, -3 and so on behind it.

    Raises:
        UserError: It cannot be made.
    """
    path = folder
    for number in itertools.count(2):
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            path = folder.with_name(f"{folder.name}-{number}")
        except OSError as error:
            raise UserError(f"{path}: cannot be made ({error.strerror}); name a --model_dir") from None
