"""What is done with objects in S3, by fsspec and s3fs. `vit.remote.transfer` calls this, and tries again.

An object is there whole or not at all: S3 shows one once all its bytes have come. Credentials, region and endpoint
(AWS_ENDPOINT_URL) are those that Amazon's own tools find.
"""
import errno
from pathlib import Path

from vit.errors import UserError
from vit.remote.address import WAY_OUT, Address
from vit.remote.found import Found

# Bytes of a part, and how many are under way: what a transfer holds in memory is their product.
_PART, _AT_ONCE = 8 << 20, 4
_LASTING = (errno.EPERM, errno.ENOSYS, errno.ENAMETOOLONG, errno.EREMCHG)  # s3fs's words for what S3 refuses
_TIMES = {"connect_timeout": 10, "read_timeout": 60, "retries": {"total_max_attempts": 1}}


def look(address: Address) -> Found:
    """Ask for an object's size and tag."""
    return _found(_system().info(_path(address)))


def get(address: Address, path: Path) -> None:
    """Read an object into a file."""
    _system().get_file(_path(address), str(path), chunksize=_PART, max_concurrency=_AT_ONCE)


def names(address: Address) -> dict[str, Found]:
    """List the objects below an address, by their names from there on; others than those of files are left out."""
    begin = f"{_path(address)}/"
    found = _system().find(_path(address), detail=True)
    return {name.removeprefix(begin): _found(info) for name, info in sorted(found.items())
            if name.startswith(begin) and not {"", ".", ".."}.intersection(name.removeprefix(begin).split("/"))}


def put(path: Path, address: Address, new: bool = False) -> None:
    """Write a file as an object; if it is to be new, only where there is none.

    Raises:
        FileExistsError: There is one, as far as the server can tell.
    """
    _system().put_file(str(path), _path(address), chunksize=_PART, max_concurrency=_AT_ONCE,
                       mode="create" if new else "overwrite")


def copy(address: Address, other: Address) -> None:
    """Copy an object within S3."""
    _system().copy(_path(address), _path(other))


def remove(address: Address) -> None:
    """Delete an object; one that is not there is none."""
    _system().rm_file(_path(address))


def lasting(error: BaseException) -> str | None:
    """Say what is wrong, where no further try would mend it; else None."""
    from botocore import exceptions
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError | PermissionError):
        return f"access is denied ({error}); {WAY_OUT}"
    if isinstance(error, exceptions.ProfileNotFound | exceptions.ParamValidationError | exceptions.NoRegionError
                  | exceptions.UnknownEndpointError | exceptions.InvalidRegionError | ValueError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _LASTING:
        return error.strerror
    return None


def _system():
    try:
        import fsspec
        import s3fs  # noqa: F401  (what fsspec finds by name)
    except ImportError:
        raise UserError("s3:// needs s3fs: pip install s3fs, or pip install '.[s3]' in the checkout") from None
    # fsspec keeps it, once for each process: one that was made before a fork cannot be used after it.
    system = fsspec.filesystem("s3", use_listings_cache=False, config_kwargs=_TIMES)
    system.retries = 1
    return system


def _path(address: Address) -> str:
    return f"{address.place}/{address.path}"


def _found(info: dict) -> Found:
    if info["type"] != "file":
        raise FileNotFoundError("it is a folder")
    return Found(info["size"], info.get("ETag") or "")
