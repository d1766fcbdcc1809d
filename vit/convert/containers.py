"""Files of tensors, recognised by how they begin, and opened without running anything that they hold."""
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from vit.convert import huggingface, keras, protobuf, runs, state_dict
from vit.convert.source_file import Source
from vit.errors import UserError
from vit.files import safetensors, usage
from vit.files.kinds import check_file
from vit.files.lazy_tensor import LazyTensor
from vit.files.untrusted import check_distinct, listed, reading
from vit.files.zip_directory import check_directory


def open_source(path: str | os.PathLike) -> Source:
    """Open a file, or a folder that Hugging Face's transformers or a run of this project wrote.

    Of all but a checkpoint no tensor is loaded yet.

    Raises:
        UserError: There is no such file, or it is of no known kind, damaged, or claims more than it can hold.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path)
    with reading(path, "file"):
        check_file(path)
        with open(path, "rb") as file:
            begin = file.read(64)
    for is_kind, open_kind in _KINDS:
        if is_kind(begin):
            return open_kind(path)
    if begin[:1] == b"\x80":
        raise UserError(f"{path}: a pickle that torch did not write; pickles can run code, so it is not read")
    raise UserError(f"{path}: neither safetensors, a torch state dict, an npz, a MindSpore checkpoint nor Keras's HDF5")


def _open_folder(folder: Path) -> Source:
    for name in huggingface.FILES:
        if (folder / name).is_file():
            return open_source(folder / name)
    shards = [name for name in huggingface.FILES if (folder / f"{name}.index.json").exists()]
    if shards:
        raise UserError(f"{folder}: {shards[0]} is in several parts, which are not read; save it in one")
    source = runs.open_folder(folder)
    if source is None:
        raise UserError(f"{folder}: a folder without {', '.join(huggingface.FILES)}, and without a run's "
                        f"{', '.join(runs.FINISHED.values())} or checkpoints")
    return source


def _safetensors(path: Path) -> Source:
    tensors, metadata = safetensors.open_tensors(path)
    if runs.is_checkpoint(metadata):
        return runs.open_checkpoint(path)
    return Source(path, safetensors.KIND, tensors, metadata.get("spec"), usage=usage.parse(path, metadata.get("usage")))


def _zip(path: Path) -> Source:
    with reading(path, "zip archive"):
        check_directory(path)
        archive = zipfile.ZipFile(path)
        members = [info.filename for info in archive.infolist()]
        check_distinct(members)
        if members and all(name.endswith(".npy") for name in members):
            return _npz(path, archive)
        pickles = [name for name in members if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise UserError(f"{path}: a zip archive that is neither an npz nor a torch state dict: {listed(members)}")
        if any("constants.pkl" in name for name in members):
            raise UserError(f"{path}: a TorchScript program, not a state dict; save its state_dict() instead")
        return state_dict.open_zip(path, archive, pickles[0])


def _npz(path: Path, archive: zipfile.ZipFile) -> Source:
    tensors = {}
    for info in archive.infolist():
        with archive.open(info) as member:
            version = np.lib.format.read_magic(member)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, _, dtype = read_header[version](member)
        if dtype.hasobject:
            raise UserError(f"{path}: {listed([info.filename])} holds pickled objects, which can run code")

        def load(info=info):
            with reading(path, "npz"), archive.open(info) as member:
                return np.lib.format.read_array(member, allow_pickle=False)

        tensors[info.filename.removesuffix(".npy")] = LazyTensor(str(dtype.newbyteorder("=")), shape, load)
    spec = archive.comment.decode("utf-8") or None
    return Source(path, "npz", tensors, spec)


def _mindspore(path: Path) -> Source:
    with reading(path, "MindSpore checkpoint"):
        entries = protobuf.entries(path)
        check_distinct(entry.name for entry in entries)
        tensors = {entry.name: LazyTensor(entry.dtype, entry.shape, entry.load)
                   for entry in entries if entry.dtype != "str"}
        specs = [entry.text() for entry in entries if entry.dtype == "str" and entry.name == protobuf.SPEC]
    return Source(path, "MindSpore checkpoint", tensors, specs[0] if specs else None)


def _hdf5(path: Path) -> Source:
    kind = "HDF5 file of Keras"
    with reading(path, kind), tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tensors.safetensors"
        keras.to_safetensors(path, copy)
        return Source(path, kind, _safetensors(copy).tensors)  # they stay readable: the copy is kept open


_KINDS = (
    (runs.begins, runs.open_checkpoint),
    (lambda begin: begin[8:9] == b"{", _safetensors),
    (lambda begin: begin[:4] == b"PK\x03\x04", _zip),
    (lambda begin: begin.startswith(state_dict.LEGACY_MAGIC), state_dict.open_legacy),
    (lambda begin: begin[:4] == b"\x89HDF", _hdf5),
    (lambda begin: begin[:1] == b"\n", _mindspore),
)
