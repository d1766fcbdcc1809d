"""The table of contents of a zip archive, held to a size before it is parsed."""
import os
import struct

from vit.files.untrusted import MAX_HEADER_BYTES


def check_directory(path: str | os.PathLike) -> None:
    """Refuse an archive whose table of contents is larger than that of any model or set of images.

    Raises:
        ValueError: It is, or the archive's end is missing.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        file.seek(max(0, size - (1 << 16) - 22))
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        raise ValueError("its end is missing")
    length, = struct.unpack_from("<I", tail, end + 12)
    if length == 0xffffffff:
        end = tail.rfind(b"PK\x06\x06")
        if end < 0 or len(tail) < end + 48:
            raise ValueError("its end is missing")
        length, = struct.unpack_from("<Q", tail, end + 40)
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"its table of contents claims {length:,} bytes")
