"""Torch's files, which are pickles: checked opcode by opcode, so that none of them runs code, and only then loaded."""
import pickletools
import warnings
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vit.convert.source_file import Source
from vit.errors import UserError
from vit.files.lazy_tensor import LazyTensor
from vit.files.untrusted import MAX_HEADER_BYTES, MAX_NAMES, listed, reading

# How a file of the time before torch 1.6 begins: its magic number, pickled.
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_LEGACY_PICKLES = 5  # magic number, version, the writer's word sizes, the object, the names of its storages
_MAX_OPCODES = 100 * MAX_NAMES
# All that a state dict asks for. torch's weights_only allows more, and some of that allocates what the file says.
_HARMLESS = {("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2"),
             ("torch._utils", "_rebuild_parameter"), ("torch", "Size"),
             *(("torch", f"{kind}Storage") for kind in ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short",
                                                        "Char", "Byte", "Bool"))}
_TYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
# Where training programs put the state dict among other things, in the order in which they are tried.
_STATE_KEYS = ("model", "state_dict", "model_state_dict", "model_state", "net", "module")


def open_zip(path: Path, archive: zipfile.ZipFile, pickle: str) -> Source:
    """Open what `torch.save` writes since torch 1.6.

    Args:
        path: The file.
        archive: The same, opened as a zip archive.
        pickle: Name of the member that holds the pickle.

    Raises:
        UserError: It is not a state dict.
        ValueError: It is damaged.
    """
    if archive.getinfo(pickle).file_size > MAX_HEADER_BYTES:
        raise ValueError("its pickle is too long")
    for info in archive.infolist():
        if info.compress_type != zipfile.ZIP_STORED:  # torch never compresses, so that it can map the file
            raise ValueError(f"{listed([info.filename])} is compressed")
    with archive.open(pickle) as member:
        _check_pickle(path, member)
    damaged = archive.testzip()
    if damaged:
        raise ValueError(f"{listed([damaged])} has a wrong checksum")
    return _load(path)


def open_legacy(path: Path) -> Source:
    """Open what `torch.save` wrote before torch 1.6.

    Raises:
        UserError: It is damaged, or not a state dict.
    """
    with reading(path, "torch file"):
        with open(path, "rb") as file:
            for _ in range(_LEGACY_PICKLES):
                _check_pickle(path, _Bounded(file, path.stat().st_size))
        return _load(path)


class _Bounded:
    """A file that is asked for no more than it holds: Python takes the memory of what is asked for before it reads."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size, self.readline, self.tell = file, size, file.readline, file.tell

    def read(self, count: int) -> bytes:
        return self.file.read(min(count, self.size))


def _check_pickle(path: Path, file: "BinaryIO | _Bounded") -> None:
    """Read a pickle's opcodes without running them, and refuse any that calls more than a state dict needs."""
    for index, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if index > _MAX_OPCODES:
            raise ValueError("its pickle is too long")
        if opcode.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
            raise UserError(f"{path}: not a state dict: its pickle calls code ({opcode.name})")
        if opcode.name == "GLOBAL" and tuple(argument.split(" ", 1)) not in _HARMLESS:
            called = ".".join(argument.split(" ", 1))
            raise UserError(f"{path}: not a state dict: its pickle calls {listed([called])}, which is not run; "
                            "save the model's state_dict() alone")


def _load(path: Path) -> Source:
    from vit.backend import require
    require("torch", __name__)
    import torch
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickles of other versions
        content, notes = torch.load(path, map_location="cpu", weights_only=True), []
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a state dict")
    if not any(isinstance(value, torch.Tensor) for value in content.values()):
        nested = [key for key in _STATE_KEYS if isinstance(content.get(key), dict)]
        if not nested:
            raise UserError(f"{path}: holds no state dict; it has {listed(content) or 'nothing'}")
        notes.append(f"the state dict under {nested[0]!r} was read")
        others = [key for key in content if key != nested[0]]
        if others:
            notes.append(f"not read: {listed(others)}")
        content = content[nested[0]]
    plain = [name for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if plain:
        notes.append(f"not tensors, not read: {listed(plain)}")
    tensors = {}
    for name, value in content.items():
        if isinstance(value, torch.Tensor):
            dtype = str(value.dtype).removeprefix("torch.")
            if dtype not in _TYPES:
                raise UserError(f"{path}: of a type that is not read: {listed([name])} is of type {dtype}")
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise ValueError(f"{listed([name])} is larger than what is stored of it")
            tensors[str(name)] = LazyTensor(dtype, tuple(value.shape), lambda value=value: _to_numpy(value.detach()))
    if len(tensors) + len(plain) < len(content):
        raise UserError(f"{path}: two of its names read the same")
    return Source(path, "torch state dict", tensors, notes=notes)


def _to_numpy(value) -> np.ndarray:
    """A tensor as an array of its own, so that torch's can be freed."""
    import torch
    value = value.to(torch.float32) if value.dtype is torch.bfloat16 else value
    return value.numpy().copy()
