"""Read, write and list files elsewhere, with a few tries; what goes wrong is an OSError that names the address."""
import contextlib
import errno
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from vit.errors import UserError, printable
from vit.remote.address import Address
from vit.remote.found import Found

WAITS = [1.0, 2.0, 4.0, 8.0]  # seconds before the second try and those after it

T = TypeVar("T")


def look(address: Address) -> Found:
    """Ask for a file's size and tag.

    Raises:
        FileNotFoundError: It is not there.
        OSError: Nobody answers, or access is denied. The error's `filename` is the address, here as below.
    """
    return _try(address, lambda server: server.look(address))


def get(address: Address, path: Path) -> None:
    """Read a file into a local one."""
    _try(address, lambda server: server.get(address, path))


def names(address: Address) -> dict[str, Found]:
    """List the files below an address in S3, by their names from there on; none where there is nothing.

    Raises:
        FileNotFoundError: There is no such bucket.
    """
    return _try(address, lambda server: server.names(address))


def put(path: Path, address: Address, new: bool = False) -> None:
    """Write a local file as one in S3, whole or not at all; if it is to be new, only where there is none.

    Raises:
        FileExistsError: There is one.
    """
    _try(address, lambda server: server.put(path, address, new))


def copy(address: Address, other: Address) -> None:
    """Copy a file within S3."""
    _try(address, lambda server: server.copy(address, other))


def remove(address: Address) -> None:
    """Delete a file in S3, if it is there."""
    _try(address, lambda server: server.remove(address))


@contextlib.contextmanager
def told() -> Iterator[None]:
    """A block in which what a server says becomes one line."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:  # of a local disk
            raise
        raise UserError(f"{error.filename}: {error.strerror}") from None


def _try(address: Address, action: Callable[[ModuleType], T]) -> T:
    """Do something at a server, and again after a pause where that may help."""
    server = _server(address)
    for wait in (*WAITS, None):
        try:
            return action(server)
        except UserError:
            raise
        except FileNotFoundError as error:
            kind = "bucket" if "bucket does not exist" in str(error) else "file"
            raise FileNotFoundError(errno.ENOENT, f"there is no such {kind}", str(address)) from None
        except FileExistsError:
            raise FileExistsError(errno.EEXIST, "is there already", str(address)) from None
        except Exception as error:  # of whichever library: fsspec, botocore, aiohttp, requests, urllib3
            if isinstance(error, OSError) and isinstance(error.filename, str | Path) and error.errno is not None:
                raise  # of a local file, or of a disk that is full
            fault = server.lasting(error)
            if fault is None and wait is not None:
                print(printable(f"note: {address}: {_reason(error)}; trying again in {wait:g} s"), file=sys.stderr,
                      flush=True)
                time.sleep(wait)
                continue
            raise OSError(errno.EACCES if fault else errno.EIO, printable(fault or _reason(error)),
                          str(address)) from None
    raise AssertionError("the last try ends in a value or an error")


def _server(address: Address) -> ModuleType:
    from vit.remote import http, s3
    return s3 if address.scheme == "s3" else http


def _reason(error: Exception) -> str:
    """Why nobody answered, shortly: libraries put whole addresses into it, with what is behind their ?."""
    if isinstance(error, ConnectionError) or "Connect" in type(error).__name__:
        return "cannot be reached"
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return "does not answer in time"
    return f"transfer failed ({type(error).__name__})"
