"""The format number in the header of this project's own safetensors files."""
import os

from vit.errors import UserError
from vit.files.untrusted import listed


def check_format(path: str | os.PathLike, metadata: dict[str, str], known: tuple[str, ...], kind: str) -> str:
    """Hold a file to the formats that this version reads.

    Args:
        path: The file, for the message.
        metadata: What its header says.
        known: The formats of its kind, oldest first. From the second on, a file always has a checksum.
        kind: What it should be, in words, such as "weights file".

    Returns:
        Its format.

    Raises:
        UserError: It is of another kind or of a later format, or its checksum was lost.
    """
    found = metadata.get("format", "")
    if found not in known:
        family = known[0].rpartition("-")[0]
        if found.startswith(f"{family}-"):
            raise UserError(f"{path}: its format is {listed([found])}, and this version reads {' and '.join(known)}; "
                            "read it with the version that wrote it, or a later one")
        raise UserError(f"{path}: is not a {kind} of this project: its header has no {known[-1]} manifest")
    if found != known[0] and "checksum" not in metadata:
        raise UserError(f"{path}: damaged: its checksum is missing")
    return found
