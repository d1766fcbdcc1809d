"""Weights that Keras stored in HDF5: Hugging Face's TensorFlow models, and the ViT of FastEstimator's apphub."""
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

from vit.convert.layouts import APPHUB_KERAS
from vit.errors import UserError, one_line
from vit.files.safetensors import write_tensors
from vit.files.untrusted import MAX_NAMES, check_distinct, listed, max_tensor_bytes

# A damaged file can make the HDF5 library crash, loop, or ask for gigabytes, so it runs in a process of its own.
_SECONDS, _BYTES_A_SECOND = 20, 20 << 20
_MEMORY = 2 << 30
# The apphub's ViT leaves its layers' names to Keras, which counts them (dense_17). So its tensors are told by their
# order, which is the order in which the layers are made.
_APPHUB_FIRST = ("patch_embed.proj.weight", "cls_token", "pos_embed")
_APPHUB_BLOCK = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "norm1", "norm2")
_APPHUB_LAST = ("norm.weight", "norm.bias", "head.weight", "head.bias")


def to_safetensors(path: Path, target: Path) -> None:
    """Copy the tensors of an HDF5 file into a safetensors file, in a process of its own.

    Args:
        path: A file that Keras's `save_weights` or `save` wrote.
        target: The file to write; its names are those of a layout in `vit.convert.layouts`.

    Raises:
        ValueError: The file is damaged, or Keras did not write it.
    """
    size = path.stat().st_size
    limits = [str(_SECONDS + size // _BYTES_A_SECOND), str(_MEMORY + 3 * size)]
    root = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    program = "import sys; from vit.convert import keras; sys.exit(keras.main(*sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", program, path.absolute(), target, *limits], capture_output=True,
                          text=True, errors="replace", env=environment)
    if done.returncode == 2:
        raise ValueError(done.stderr.strip())
    if done.returncode:
        raise ValueError("the HDF5 library gave up on it")


def main(path: str, target: str, seconds: str, memory: str) -> int:
    """Copy the tensors under limits of time and memory (the child process); return its exit status."""
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        tensors = _tensors(Path(path))
        with open(target, "wb") as file:
            write_tensors(file, tensors, {})
    except Exception as error:  # the HDF5 library's own are of a dozen types
        print(one_line(error), file=sys.stderr)
        return 2
    return 0


def _tensors(path: Path) -> dict[str, np.ndarray]:
    import h5py
    file = h5py.File(path, "r")
    top = file["model_weights"] if "model_weights" in file and "layer_names" not in file.attrs else file
    found = []
    for layer in _texts(top, "layer_names"):
        group = top[layer]
        for name in _texts(group, "weight_names"):
            dataset = group[name]
            if not isinstance(dataset, h5py.Dataset) or dataset.file.filename != file.filename or dataset.external or \
                    dataset.is_virtual:
                raise UserError(f"{listed([name])} is not a tensor of this file")
            if dataset.dtype.kind != "f":
                raise UserError(f"{listed([name])} is of type {dataset.dtype}, not a floating-point one")
            found.append((name, dataset))
            if len(found) > MAX_NAMES:
                raise ValueError("too many names")
    if sum(dataset.nbytes for _, dataset in found) > max_tensor_bytes(path):
        raise ValueError("its tensors claim more bytes than it can hold")
    names = _apphub_names([name for name, _ in found])
    check_distinct(names)
    return {name: dataset[()] for name, (_, dataset) in zip(names, found, strict=True)}


def _texts(group, name: str) -> list[str]:
    if name not in group.attrs:
        raise ValueError(f"it has no {name}, so Keras did not write it")
    if group.attrs.get_id(name).shape[0] > MAX_NAMES:
        raise ValueError("too many names")
    return [text.decode() if isinstance(text, bytes) else str(text) for text in group.attrs[name]]


def _apphub_names(names: list[str]) -> list[str]:
    """The layout's names for the tensors of an apphub file; the names of other files as they are."""
    if not any("encoder_layer" in name and "multi_head_attention" in name for name in names):
        return names
    depth = len({name.split("encoder_layer", 1)[1].split("/")[0] for name in names if "encoder_layer" in name})
    canonical = [*_APPHUB_FIRST, *(f"blocks.{i}.{module}.{leaf}" for i in range(depth) for module in _APPHUB_BLOCK
                                   for leaf in ("weight", "bias")), *_APPHUB_LAST]
    # q, k and v are three layers: kernel and bias of each come before the next one's.
    known = []
    for name in canonical:
        if name.endswith("attn.qkv.weight"):
            both = zip(APPHUB_KERAS.theirs(name), APPHUB_KERAS.theirs(name.replace("weight", "bias")), strict=True)
            known += [one for pair in both for one in pair]
        elif not name.endswith("attn.qkv.bias"):
            known += APPHUB_KERAS.theirs(name)
    if len(names) not in (len(known), len(known) - 2):  # the backbone alone has no head
        raise ValueError(f"{len(names)} tensors, where a ViT of the apphub with {depth} blocks has {len(known)}")
    for name, ours in zip(names, known, strict=False):  # a backbone has no head
        kind = name.removesuffix(":0").rsplit("/", 1)[-1]
        if kind != ours.rsplit("/", 1)[-1]:
            raise ValueError(f"{listed([name])} is where {ours} should be")
    return known[:len(names)]
