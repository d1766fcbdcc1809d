"""Files of tensors, recognised by how they begin, opened without running anything that they hold."""
import json
import os
import pickletools
import struct
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import safetensors

from vit.convert import keras, protobuf
from vit.convert.source import MOST_HEADER, MOST_NAMES, Source, Tensor, reading, shown, twice
from vit.errors import UserError
from vit.files.safetensors import verify

_SAFETENSORS_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
                      "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}
_LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# All that a state dict asks for. torch's weights_only allows more, and some of that allocates what the file says.
_HARMLESS = {("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2"),
             ("torch._utils", "_rebuild_parameter"), ("torch", "Size"),
             *(("torch", f"{kind}Storage") for kind in ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short",
                                                        "Char", "Byte", "Bool"))}
# Where training programs put the state dict among other things, in the order in which they are tried.
_STATE_KEYS = ("model", "state_dict", "model_state_dict", "model_state", "net", "module")
_FOLDER_FILES = ("model.safetensors", "pytorch_model.bin", "tf_model.h5")


def open_source(path: str | os.PathLike) -> Source:
    """Open a file or a Hugging Face folder; tensors are not loaded yet.

    Raises:
        UserError: There is no such file, it is of no known kind, damaged, or claims more than it can hold.
    """
    path = Path(path)
    if path.is_dir():
        path = _file_in(path)
    with reading(path, "file"), open(path, "rb") as file:
        begin = file.read(32)
    for is_kind, read in _KINDS:
        if is_kind(begin):
            return read(path)
    if begin[:1] == b"\x80":
        raise UserError(f"{path}: a pickle that torch did not write; pickles can run code, so it is not read")
    raise UserError(f"{path}: neither safetensors, a torch state dict, an npz, a MindSpore checkpoint nor Keras's HDF5")


def _file_in(folder: Path) -> Path:
    for name in _FOLDER_FILES:
        if (folder / name).is_file():
            return folder / name
    shards = [name for name in _FOLDER_FILES if (folder / f"{name}.index.json").exists()]
    if shards:
        raise UserError(f"{folder}: {shards[0]} is in several parts, which are not read; save it in one")
    raise UserError(f"{folder}: a folder without {', '.join(_FOLDER_FILES)}")


def settings_beside(path: Path) -> dict | None:
    """The `config.json` in the folder of a Hugging Face file, or None.

    Raises:
        UserError: It is there, but it is no JSON object.
    """
    path = path.with_name("config.json")
    if not path.is_file():
        return None
    with reading(path, "JSON file"):
        if path.stat().st_size > MOST_HEADER:
            raise ValueError("too long")
        settings = json.loads(path.read_bytes())
        if not isinstance(settings, dict):
            raise ValueError("no object")
    return settings


def _safetensors(path: Path) -> Source:
    what = "safetensors file"
    with reading(path, what):
        with open(path, "rb") as file:
            length, = struct.unpack("<Q", file.read(8))
            if length > min(MOST_HEADER, path.stat().st_size):
                raise ValueError(f"its header claims {length:,} bytes")
            header = json.loads(file.read(length), object_pairs_hook=_distinct)
        verify(path)
        metadata = header.pop("__metadata__", None) or {}
        odd = [name for name, entry in header.items() if entry["dtype"] not in _SAFETENSORS_TYPES]
        if odd:
            raise UserError(f"{path}: of a type that is not read: {shown(odd)}")
        # pread, not mmap: a file that shrinks while it is read is an error then, not a dead process.
        file = safetensors.safe_open(path, framework="np", backend="pread")

        def load(name):
            with reading(path, what):
                return file.get_tensor(name)

        tensors = {name: Tensor(_SAFETENSORS_TYPES[entry["dtype"]], tuple(entry["shape"]), lambda n=name: load(n))
                   for name, entry in header.items()}
    return Source(path, what, tensors, metadata.get("spec"), metadata=metadata)


def _distinct(pairs: list) -> dict:
    """A JSON object whose names must differ: of two tensors with one name, a parser would drop one silently."""
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError(f"twice: {shown(twice(name for name, _ in pairs))}")
    return result


def _zip(path: Path) -> Source:
    with reading(path, "zip archive"):
        _check_directory(path)
        archive = zipfile.ZipFile(path)
        members = [info.filename for info in archive.infolist()]
        _distinct([(name, None) for name in members])
        if members and all(name.endswith(".npy") for name in members):
            return _npz(path, archive)
        pickles = [name for name in members if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise UserError(f"{path}: a zip archive that is neither an npz nor a torch state dict: {shown(members)}")
        if any("constants.pkl" in name for name in members):
            raise UserError(f"{path}: a TorchScript program, not a state dict; save its state_dict() instead")
        return _torch_zip(path, archive, pickles[0])


def _check_directory(path: Path) -> None:
    """Refuse an archive whose table of contents is larger than any model's before it is parsed."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(max(0, size - (1 << 16) - 22))
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        raise ValueError("its end is missing")
    length, = struct.unpack_from("<I", tail, end + 12)
    if length == 0xffffffff:
        end = tail.rfind(b"PK\x06\x06")
        length, = struct.unpack_from("<Q", tail, end + 40)
    if length > MOST_HEADER:
        raise ValueError(f"its table of contents claims {length:,} bytes")


def _npz(path: Path, archive: zipfile.ZipFile) -> Source:
    tensors = {}
    for info in archive.infolist():
        with archive.open(info) as member:
            version = np.lib.format.read_magic(member)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, _, dtype = read_header[version](member)
        if dtype.hasobject:
            raise UserError(f"{path}: {shown([info.filename])} holds pickled objects, which can run code")

        def load(info=info):
            with reading(path, "npz"), archive.open(info) as member:
                return np.lib.format.read_array(member, allow_pickle=False)

        tensors[info.filename.removesuffix(".npy")] = Tensor(str(dtype.newbyteorder("=")), shape, load)
    spec = archive.comment.decode("utf-8") or None
    return Source(path, "npz", tensors, spec)


def _torch_zip(path: Path, archive: zipfile.ZipFile, pickle: str) -> Source:
    if archive.getinfo(pickle).file_size > MOST_HEADER:
        raise ValueError("its pickle is too long")
    for info in archive.infolist():
        if info.compress_type != zipfile.ZIP_STORED:  # torch never compresses, so that it can map the file
            raise ValueError(f"{shown([info.filename])} is compressed")
    with archive.open(pickle) as member:
        _check_pickle(path, member)
    damaged = archive.testzip()
    if damaged:
        raise ValueError(f"{shown([damaged])} has a wrong checksum")
    return _torch(path)


def _legacy_torch(path: Path) -> Source:
    with reading(path, "torch file"):
        with open(path, "rb") as file:
            for _ in range(5):  # magic number, version, the writer's word sizes, the object, the names of storages
                _check_pickle(path, file)
        return _torch(path)


def _check_pickle(path: Path, file) -> None:
    """Read a pickle's opcodes, without running them, for what it would call."""
    for index, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if index > 100 * MOST_NAMES:
            raise ValueError("its pickle is too long")
        if opcode.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
            raise UserError(f"{path}: not a state dict: its pickle calls code ({opcode.name})")
        if opcode.name == "GLOBAL" and tuple(argument.split(" ", 1)) not in _HARMLESS:
            raise UserError(f"{path}: not a state dict: its pickle calls {shown(['.'.join(argument.split(' ', 1))])}, "
                            "which is not run; save the model's state_dict() alone")


def _torch(path: Path) -> Source:
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
            raise UserError(f"{path}: holds no state dict; it has {shown(content) or 'nothing'}")
        notes.append(f"the state dict under {nested[0]!r} was read")
        others = [key for key in content if key != nested[0]]
        if others:
            notes.append(f"not read: {shown(others)}")
        content = content[nested[0]]
    values = [name for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if values:
        notes.append(f"not tensors, not read: {shown(values)}")
    tensors = {}
    for name, value in content.items():
        if isinstance(value, torch.Tensor):
            dtype = str(value.dtype).removeprefix("torch.")
            if dtype not in _SAFETENSORS_TYPES.values():
                raise UserError(f"{path}: of a type that is not read: {shown([name])} is of type {dtype}")
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise ValueError(f"{shown([name])} is larger than what is stored of it")
            tensors[str(name)] = Tensor(dtype, tuple(value.shape), lambda value=value: _numpy(value.detach()))
    if len(tensors) + len(values) < len(content):
        raise UserError(f"{path}: two of its names read the same")
    return Source(path, "torch state dict", tensors, notes=notes)


def _numpy(value) -> np.ndarray:
    import torch
    value = value.to(torch.float32) if value.dtype is torch.bfloat16 else value
    return value.numpy().copy()  # its own, so that torch's can be freed


def _mindspore(path: Path) -> Source:
    with reading(path, "MindSpore checkpoint"):
        entries = protobuf.entries(path)
        _distinct([(entry.name, None) for entry in entries])
        tensors, spec, texts = {}, None, []
        for entry in entries:
            if entry.dtype == "str":
                texts.append(entry.name)
                if entry.name == protobuf.SPEC:
                    spec = entry.text()
            else:
                tensors[entry.name] = Tensor(entry.dtype, entry.shape, entry.load)
    return Source(path, "MindSpore checkpoint", tensors, spec)


def _hdf5(path: Path) -> Source:
    what = "HDF5 file of Keras"
    with reading(path, what), tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tensors.safetensors"
        keras.to_safetensors(path, copy)
        return Source(path, what, _safetensors(copy).tensors)  # the copy stays readable while it is open


_KINDS = (
    (lambda begin: begin[8:9] == b"{", _safetensors),
    (lambda begin: begin[:4] == b"PK\x03\x04", _zip),
    (lambda begin: begin.startswith(_LEGACY_TORCH), _legacy_torch),
    (lambda begin: begin[:4] == b"\x89HDF", _hdf5),
    (lambda begin: begin[:1] == b"\n", _mindspore),
)
