"""Keras's weights in HDF5: of Hugging Face's TensorFlow models, and of the TensorFlow ViT in FastEstimator's apphub."""
from pathlib import Path

import h5py
import numpy as np

from vit.convert.layouts import APPHUB_KERAS
from vit.convert.source import MOST_NAMES, Source, Tensor, reading, shown

_WHAT = "HDF5 file of Keras"
# The apphub's ViT leaves its layers' names to Keras, which counts them (dense_17), so there the order says what is
# what. It is that in which the layers are made.
_APPHUB_FIRST = ("patch_embed.proj.weight", "cls_token", "pos_embed")
_APPHUB_BLOCK = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "norm1", "norm2")
_APPHUB_LAST = ("norm.weight", "norm.bias", "head.weight", "head.bias")


def read(path: Path) -> Source:
    """Open a file that `save_weights` or `save` wrote; nothing but its tensors is looked at."""
    file = h5py.File(path, "r")
    top = file["model_weights"] if "model_weights" in file and "layer_names" not in file.attrs else file
    found: list[tuple[str, h5py.Dataset]] = []
    for layer in _texts(top, "layer_names"):
        group = top[layer]
        for name in _texts(group, "weight_names"):
            dataset = group[name]
            if not isinstance(dataset, h5py.Dataset) or dataset.file.filename != file.filename or dataset.external or \
                    dataset.is_virtual:
                raise ValueError(f"{shown([name])} is not a tensor of this file")
            found.append((name, dataset))
            if len(found) > MOST_NAMES:
                raise ValueError("too many names")
    names = _apphub_names([name for name, _ in found])
    if len(set(names)) < len(names):
        raise ValueError(f"twice: {shown(sorted({name for name in names if names.count(name) > 1}))}")

    def load(dataset: h5py.Dataset) -> np.ndarray:
        with reading(path, _WHAT):
            return dataset[()]

    tensors = {name: Tensor(str(dataset.dtype.newbyteorder("=")), dataset.shape, lambda d=dataset: load(d))
               for name, (_, dataset) in zip(names, found, strict=True)}
    return Source(path, _WHAT, tensors)


def _texts(group: h5py.Group, name: str) -> list[str]:
    if not isinstance(group, h5py.Group) or name not in group.attrs:
        raise ValueError(f"it has no {name}, so Keras did not write it")
    if group.attrs.get_id(name).shape[0] > MOST_NAMES:
        raise ValueError("too many names")
    return [text.decode() if isinstance(text, bytes) else str(text) for text in group.attrs[name]]


def _apphub_names(names: list[str]) -> list[str]:
    """The names that the layout's table knows, for a file of the apphub; other files' names as they are."""
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
            raise ValueError(f"{shown([name])} is where {ours} should be")
    return known[:len(names)]
