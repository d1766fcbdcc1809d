"""MindSpore's checkpoint files, read and written without MindSpore: the few fields of its `checkpoint.proto`.

A file is a sequence of entries (field 1), each a name (field 1) and a tensor (field 2) of sizes (1), a type by name (2)
and little-endian bytes (3). A long tensor is in several entries of one name, one after the other.
Source: https://github.com/mindspore-ai/mindspore/blob/master/mindspore/ccsrc/utils/checkpoint.proto
and the wire format, https://protobuf.dev/programming-guides/encoding/.
"""
import math
import mmap
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import ml_dtypes
import numpy as np

from vit.files.untrusted import MAX_NAMES, listed

SPEC = "vit_spec"  # the name of the entry that holds this project's manifest
_TYPES = {"Float64": "float64", "Float32": "float32", "Float16": "float16", "BFloat16": "bfloat16", "Int64": "int64",
          "Int32": "int32", "Int16": "int16", "Int8": "int8", "UInt8": "uint8", "Bool": "bool", "str": "str"}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_CHECKSUM = b"crc_num"
_PART = 512 << 20  # MindSpore's own size of a part, bytes


@dataclass
class Entry:
    """One tensor of a checkpoint, not loaded yet.

    Args:
        name: Its name.
        dtype: NumPy's name of its type, "bfloat16", or "str" for a text.
        shape: Its shape.
        file: The whole checkpoint.
        parts: Where its bytes begin and end in the file, part after part.
    """
    name: str
    dtype: str
    shape: tuple[int, ...]
    file: mmap.mmap = field(repr=False)
    parts: list[tuple[int, int]]

    def load(self) -> np.ndarray:
        """Return a copy of the tensor."""
        dtype = ml_dtypes.bfloat16 if self.dtype == "bfloat16" else self.dtype
        data = bytearray().join(self.file[begin:end] for begin, end in self.parts)
        return np.frombuffer(data, dtype).reshape(self.shape)

    def text(self) -> str:
        """Return the text of an entry of type str, which MindSpore stores with four bytes a character."""
        return b"".join(self.file[begin:end] for begin, end in self.parts).decode("utf-32-le")


def entries(path: Path) -> list[Entry]:
    """List the tensors of a checkpoint; none is loaded yet.

    Raises:
        ValueError: The file is damaged, or no checkpoint.
    """
    with open(path, "rb") as opened:
        file = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    result: list[Entry] = []
    for number, begin, end in _fields(file, 0, _end(file)):
        if number != 1:
            raise ValueError(f"field {number} is not a tensor's")
        entry = _entry(file, begin, end)
        if result and result[-1].name == entry.name and _short(result[-1]):
            result[-1].parts += entry.parts
        else:
            result.append(entry)
        if len(result) > MAX_NAMES:
            raise ValueError("too many names")
    for entry in result:
        if entry.dtype != "str" and _short(entry) != 0:
            raise ValueError(f"{listed([entry.name])} is {list(entry.shape)}, but its bytes are not as many")
    return result


def _end(file: mmap.mmap) -> int:
    """Where the entries end: at the end of the file, or before the checksum that MindSpore can put there."""
    end = len(file) - len(_CHECKSUM) - 10
    if end < 0 or file[end:end + len(_CHECKSUM)] != _CHECKSUM:
        return len(file)
    checksum = 0
    for begin in range(0, end, 1 << 24):
        checksum = zlib.crc32(file[begin:min(begin + (1 << 24), end)], checksum)
    if checksum != int.from_bytes(file[end + len(_CHECKSUM):], "big"):
        raise ValueError("its checksum is wrong")
    return end


def _short(entry: Entry) -> int:
    """How many bytes of an entry are still to come."""
    wide = 2 if entry.dtype == "bfloat16" else np.dtype(entry.dtype).itemsize
    return math.prod(entry.shape) * wide - sum(end - begin for begin, end in entry.parts)


def _entry(file: mmap.mmap, begin: int, end: int) -> Entry:
    name, dtype, shape, content = None, None, [], None
    for number, begin_, end_ in _fields(file, begin, end):
        if number == 1:
            name = _text(file, begin_, end_)
        elif number == 2:
            for inner, at, to in _fields(file, begin_, end_):
                if inner == 1:
                    shape += _sizes(file, at, to)
                elif inner == 2:
                    dtype = _text(file, at, to)
                elif inner == 3:
                    content = (at, to)
        else:
            raise ValueError(f"{listed([name])} is not a plain tensor")
    if name is None or dtype is None or content is None:
        raise ValueError("an entry lacks its name, its type or its bytes")
    if dtype not in _TYPES:
        raise ValueError(f"{listed([name])} is of type {listed([dtype])}")
    if shape == [0] and content[1] > content[0]:  # MindSpore's way to say that it is a single number
        shape = []
    return Entry(name, _TYPES[dtype], tuple(shape), file, [content])


def _sizes(file: mmap.mmap, at: int, to: int) -> list[int]:
    if to < 0:  # one number, not packed: _fields gave it as (value, -1)
        sizes = [at]
    else:
        sizes = []
        while at < to:
            size, at = _varint(file, at, to)
            sizes.append(size)
    if len(sizes) > 8 or any(size >= 1 << 40 for size in sizes):
        raise ValueError("a size is negative or too large")
    return sizes


def _text(file: mmap.mmap, begin: int, end: int) -> str:
    if not 0 <= end - begin <= 4096:
        raise ValueError("a name is too long")
    return file[begin:end].decode("utf-8")


def _fields(file: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The fields of a message: number, and where the bytes begin and end, or (value, -1) of a plain number."""
    while at < end:
        key, at = _varint(file, at, end)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(file, at, end)
            yield number, value, -1
            continue
        if kind == _BYTES:
            length, at = _varint(file, at, end)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("a field is of no known kind")
        if length > end - at:
            raise ValueError("cut off")
        yield number, at, at + length
        at += length


def _varint(file: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= end:
            raise ValueError("cut off")
        byte = file[at]
        at += 1
        value |= (byte & 0x7f) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is too long")


def write(file: BinaryIO, tensors: dict[str, np.ndarray], texts: dict[str, str]) -> None:
    """Write a checkpoint that `mindspore.load_checkpoint` reads.

    Args:
        file: The file to write to.
        tensors: Arrays by name; float64, float32 or float16.
        texts: Texts by name, which MindSpore reads as Python strings.
    """
    names = {value: key for key, value in _TYPES.items()}
    for name, value in tensors.items():
        data = memoryview(np.ascontiguousarray(value)).cast("B")
        for begin in range(0, max(len(data), 1), _PART):
            _write_entry(file, name, value.shape, names[str(value.dtype)], data[begin:begin + _PART])
    for name, text in texts.items():
        _write_entry(file, name, (0, ), "str", text.encode("utf-32-le"))


def _write_entry(file: BinaryIO, name: str, shape: tuple[int, ...], dtype: str, data) -> None:
    sizes = b"".join(b"\x08" + _number(size) for size in shape)
    tensor = sizes + b"\x12" + _number(len(dtype)) + dtype.encode() + b"\x1a" + _number(len(data))
    tag = b"\x0a" + _number(len(name.encode())) + name.encode()
    entry = tag + b"\x12" + _number(len(tensor) + len(data)) + tensor
    file.write(b"\x0a" + _number(len(entry) + len(data)) + entry)
    file.write(data)


def _number(value: int) -> bytes:
    result = bytearray()
    while value >= 0x80:
        result.append(value & 0x7f | 0x80)
        value >>= 7
    return bytes(result + bytes([value]))
