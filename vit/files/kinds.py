"""What a path is that is no regular file: a pipe would be waited for without end, and a device has no end itself."""
import os
import stat

from vit.errors import UserError

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe (FIFO)", stat.S_IFSOCK: "a socket",
          stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def other_kind(path: str | os.PathLike) -> str | None:
    """Say what a path is, behind all links, if it is neither a regular file nor absent.

    Returns:
        "a folder", "a pipe (FIFO)", "a socket" or "a device"; None for a regular file or none at all.

    Raises:
        OSError: It cannot be looked at.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "no file")


def check_file(path: str | os.PathLike) -> None:
    """Refuse to read what is no regular file; one that is absent passes, for opening it says so.

    Raises:
        UserError: It is a folder, a pipe, a socket or a device.
        OSError: It cannot be looked at.
    """
    kind = other_kind(path)
    if kind is not None:
        raise UserError(f"{path}: is {kind}, not a file")
