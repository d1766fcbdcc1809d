"""One process at a time."""
import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """A block that one process at a time is in; the kernel lets the next one in, however this one ends.

    Args:
        path: A file to lock, which stays; one of NFS must be open for writing.
    """
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
