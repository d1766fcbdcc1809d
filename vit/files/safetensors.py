"""Safetensors files: the one reader and the one writer, of weights and checkpoints as of other projects' files.

Source: https://github.com/huggingface/safetensors#format
"""
import hashlib
import json
import os
from typing import BinaryIO

import ml_dtypes
import numpy as np
import safetensors

from vit.errors import UserError
from vit.files.kinds import check_file
from vit.files.lazy_tensor import LazyTensor
from vit.files.untrusted import MAX_HEADER_BYTES, check_distinct, listed, reading

KIND = "safetensors file"
_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
          "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}
_CODES = {name: code for code, name in _TYPES.items()}


def open_tensors(path: str | os.PathLike,
                 max_header_bytes: int = MAX_HEADER_BYTES) -> tuple[dict[str, LazyTensor], dict[str, str]]:
    """Read a file's header and hold the file to its checksum, if it has one; load no tensor yet.

    Args:
        path: The file.
        max_header_bytes: How long its header may be.

    Returns:
        The tensors by name (they stay readable while they are kept, also when the file is deleted), and the metadata.

    Raises:
        UserError: The file is missing, cut off, damaged, not safetensors, or holds a type that NumPy does not have.
    """
    with reading(path, KIND):
        check_file(path)
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(max_header_bytes, os.path.getsize(path)):
                raise ValueError(f"its header claims {length:,} bytes")
            header = json.loads(file.read(length), object_pairs_hook=_distinct)
        # It holds offsets and shapes to the file's size. With pread, not mmap, a file that shrinks while it is read is
        # an error and not a dead process.
        opened = safetensors.safe_open(path, framework="np", backend="pread")
        metadata = header.pop("__metadata__", None) or {}
        _verify(path, metadata, header)
        unknown = [name for name, entry in header.items() if entry["dtype"] not in _TYPES]
        if unknown:
            raise UserError(f"{path}: of a type that is not read: {listed(unknown)}")

    def load(name: str) -> np.ndarray:
        with reading(path, KIND):
            value = opened.get_tensor(name)
        # Where MindSpore was imported, this is its own bfloat16 and not ml_dtypes': two types of the same bits.
        return value.view(ml_dtypes.bfloat16) if value.dtype.name == "bfloat16" else value

    return {name: LazyTensor(_TYPES[entry["dtype"]], tuple(entry["shape"]), lambda name=name: load(name))
            for name, entry in header.items()}, metadata


def write_tensors(file: BinaryIO, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Write tensors one by one: the library's own writer would hold the file in memory a second time.

    The metadata gets a "checksum" besides: SHA-256 of the header without it, as compact JSON, and of the data.

    Args:
        file: Where to.
        tensors: By name, in any memory layout.
        metadata: Text by name.
    """
    names = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))  # wide types first: all are aligned
    header, at = {"__metadata__": dict(metadata)}, 0
    for name in names:
        value, end = tensors[name], at + tensors[name].nbytes
        header[name] = {"dtype": _CODES[value.dtype.name], "shape": list(value.shape), "data_offsets": [at, end]}
        at = end
    digest = hashlib.sha256(_json(header))
    for name in names:
        digest.update(_bytes(tensors[name]))
    header["__metadata__"]["checksum"] = digest.hexdigest()
    text = _json(header)
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in names:
        file.write(_bytes(tensors[name]))


def _verify(path: str | os.PathLike, metadata: dict[str, str], header: dict) -> None:
    """Hold a file to the checksum that `write_tensors` put into it; files of other projects have none."""
    if "checksum" not in metadata:
        return
    rest = {name: text for name, text in metadata.items() if name != "checksum"}
    digest = hashlib.sha256(_json({"__metadata__": rest} | header))
    with open(path, "rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        while data := file.read(1 << 24):
            digest.update(data)
    if digest.hexdigest() != metadata["checksum"]:
        raise UserError(f"{path}: damaged: its checksum is wrong")


def _distinct(pairs: list) -> dict:
    check_distinct(name for name, _ in pairs)
    return dict(pairs)


def _json(header: dict) -> bytes:
    return json.dumps(header, separators=(",", ":")).encode()


def _bytes(value: np.ndarray) -> np.ndarray:
    return value.astype(value.dtype.newbyteorder("<"), order="C", copy=False).reshape(-1).view(np.uint8)
