"""Files elsewhere, as local ones: each is read once, and is in the cache whole or not at all.

The cache is the folder `remote` in `vit.data.download.cache_dir`; nothing in it is ever removed but by a person, who
may do so at any time that no run is going on. Several processes that want a file wait for the one that reads it.
"""
import errno
import hashlib
import os
import secrets
import sys
from pathlib import Path

from vit.data import download
from vit.errors import UserError, printable
from vit.files.alone import alone
from vit.remote import transfer
from vit.remote.address import Address

_LARGE = 10_000_000  # bytes that take their time


def folder() -> Path:
    """Give the cache; it need not exist."""
    return download.cache_dir() / "remote"


def local(address: Address) -> Path:
    """Give a local copy of a file, read anew if the file's size or tag is not that of the copy.

    Raises:
        UserError: It cannot be had; the message names the address.
    """
    if address.name in ("", ".", ".."):
        raise UserError(f"{address}: names no file")
    with transfer.told():
        found = transfer.look(address)
        key = hashlib.sha256(f"{address.full}\n{found.size}\n{found.tag}".encode()).hexdigest()[:24]
        anew = found.size is None or not found.tag  # nobody can tell whether the copy is the file
        return _kept(address, folder() / key / address.name, found.size, None, found.tag, anew)


def summed(address: Address, size: int, sha256: str) -> Path:
    """Give a local copy of a file whose size and sum are known: wherever it comes from, it is the same file.

    Raises:
        UserError: It cannot be had, or is another file; the message names the address.
    """
    with transfer.told():
        return _kept(address, folder() / "sha256" / sha256[:2] / sha256, size, sha256)


def _kept(address: Address, path: Path, size: int | None, sha256: str | None, tag: str = "",
          anew: bool = False) -> Path:
    if not anew and _is(path, size):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path.with_name(f".{path.name[:40]}.lock")):
            if anew or not _is(path, size):  # another process may have read it in the meantime
                _read(address, path, size, sha256, tag)
    except OSError as error:
        if error.filename == str(address):
            raise
        raise UserError(f"{folder()}: cannot keep {address} there ({error.strerror}); set VIT_CACHE to a folder that "
                        "can be written and has room") from None
    return path


def _is(path: Path, size: int | None) -> bool:
    return path.is_file() and size in (None, path.stat().st_size)


def _read(address: Address, path: Path, size: int | None, sha256: str | None, tag: str) -> None:
    """Read a file beside its name, and give it the name once it is what it should be."""
    part = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}")
    if size is not None and size >= _LARGE:
        print(printable(f"note: reading {address}, {size / 1e6:,.0f} MB, into {folder()}"), file=sys.stderr, flush=True)
    try:
        transfer.get(address, part)
        has = part.stat().st_size
        if size is not None and has != size:
            raise OSError(errno.EIO, f"has {has:,} bytes, and should have {size:,}", str(address))
        if sha256 is not None and download.sha256(part) != sha256:
            raise OSError(errno.EIO, "its sha256 is not what it should be", str(address))
        if tag and transfer.look(address).tag != tag:
            raise OSError(errno.EIO, "has changed while it was read: try again", str(address))
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
