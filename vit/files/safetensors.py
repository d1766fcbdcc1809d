"""Safetensors files, written and verified."""
import hashlib
import json
import os
from typing import BinaryIO

import ml_dtypes
import numpy as np
import safetensors

from vit.errors import UserError
from vit.model.parameters import Weights


def write_safetensors(file: BinaryIO, weights: Weights, metadata: dict[str, str]) -> None:
    """Write safetensors tensor by tensor: the library's own writer would hold the file in memory a second time.

    The metadata gets a checksum as well, over everything else, for `verify`.
    Source: https://github.com/huggingface/safetensors#format
    """
    names = sorted(weights, key=lambda name: (-weights[name].itemsize, name))  # wide types first: all are aligned
    header, at = {"__metadata__": dict(metadata)}, 0
    for name in names:
        value, end = weights[name], at + weights[name].nbytes
        header[name] = {"dtype": "BF16" if value.dtype == ml_dtypes.bfloat16 else f"F{8 * value.itemsize}",
                        "shape": list(value.shape), "data_offsets": [at, end]}
        at = end
    digest = hashlib.sha256(_json(header))
    for name in names:
        digest.update(_bytes(weights[name]))
    header["__metadata__"]["checksum"] = digest.hexdigest()
    text = _json(header)
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in names:
        file.write(_bytes(weights[name]))


def verify(path: str | os.PathLike) -> None:
    """Hold a safetensors file to its checksum, if it has one.

    Raises:
        UserError: The checksum is another.
    """
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        claimed = (header.get("__metadata__") or {}).pop("checksum", None)
        if claimed is None:
            return
        digest = hashlib.sha256(_json(header))
        while data := file.read(1 << 24):
            digest.update(data)
    if digest.hexdigest() != claimed:
        raise UserError(f"{path}: damaged: its checksum is wrong")


def _json(header: dict) -> bytes:
    return json.dumps(header, separators=(",", ":")).encode()


def _bytes(value: np.ndarray) -> np.ndarray:
    return value.astype(value.dtype.newbyteorder("<"), order="C", copy=False).reshape(-1).view(np.uint8)


def with_bfloat16(path: str | os.PathLike) -> Weights:
    with open(path, "rb") as file:
        parts = dict(safetensors.deserialize(file.read()))
    types = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32, "F64": np.float64}
    return {name: np.frombuffer(part["data"], types[part["dtype"]]).reshape(part["shape"])
            for name, part in parts.items()}
