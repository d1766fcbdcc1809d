"""Unpickle CIFAR's files, and admit only what those files hold: dicts, lists, strings, numbers, arrays."""
import io
import pickle
from typing import Any

import numpy as np

from vit.errors import UserError, one_line


def _encode(text: str, encoding: str) -> bytes:
    """Undo what Python 3 does to write bytes in protocol 2: it encodes them as latin1."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r} does not occur in a CIFAR file")
    return text.encode("latin1")


_ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): np.core.multiarray._reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
}


class _CifarUnpickler(pickle.Unpickler):

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR file holds") from None


def load(data: bytes, source: str) -> dict[str, Any]:
    """Unpickle one file of CIFAR's python version without running anything that it names.

    Args:
        data: The file's bytes.
        source: The name of the file, for messages.

    Returns:
        The dict that the file holds, with str keys.

    Raises:
        UserError: The file is damaged, holds no dict, or names anything but numpy arrays.
    """
    try:
        content = _CifarUnpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise UserError(f"{source}: not a CIFAR file ({one_line(error)}); "
                        "get the archive again") from None
    if not isinstance(content, dict):
        raise UserError(f"{source}: not a CIFAR file (it holds a {type(content).__name__}, not a dict)")
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in content.items()}
