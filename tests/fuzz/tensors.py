"""Files of a small model's weights, one of each kind, and tensors that were changed before they were written."""
import functools
import io
import json
import tempfile
from pathlib import Path

import h5py
import numpy as np
from hypothesis import strategies as st

from tests.fuzz.mutations import encodable, texts
from vit import convert
from vit.convert.layouts import HF_KERAS
from vit.files import canonical
from vit.files.usage import Preprocessing, Usage
from vit.model import parameters
from vit.model.config import ViTConfig

CONFIG = ViTConfig(image_size=16, patch_size=8, width=16, depth=2, heads=2, mlp_dim=24, num_classes=3)
SPEC = CONFIG.to_dict()
USAGE = Usage(("a", "b", "c"), Preprocessing((0.5, 0.4, 0.3), (0.2, 0.25, 0.3), None, "bilinear"))


@functools.cache
def weights() -> dict[str, np.ndarray]:
    """The model's weights, float32."""
    return {name: value.astype(np.float32) for name, value in parameters.perturbed(CONFIG, 0).items()}


@functools.cache
def whole(kind: str) -> dict[str, bytes]:
    """A whole file of a kind, by name: one, and for "hf" and "timm_hub" those of a folder."""
    name = {"canonical": "m.safetensors", "timm": "m.safetensors", "npz": "m.npz", "mindspore": "m.ckpt",
            "torch": "m.pt", "legacy": "m.pth", "hdf5": "m.h5", "hf": "m", "timm_hub": "m"}[kind]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        if kind in ("torch", "legacy"):
            save_torch(path, weights(), kind == "torch")
        elif kind == "hdf5":
            save_keras(path, weights())
        else:
            convert.write(path, weights(), CONFIG, kind, convert.Report(usage=USAGE))
        if path.is_dir():
            return {f"{name}/{inner.name}": inner.read_bytes() for inner in path.iterdir()}
        return {name: path.read_bytes()}


def save_torch(path: Path, values: dict, new: bool) -> None:
    """Write what `torch.save` writes today, or wrote before torch 1.6."""
    import torch
    torch.save({name: torch.tensor(value) for name, value in values.items()}, path, _use_new_zipfile_serialization=new)


def save_keras(path: Path, values: dict) -> None:
    """Write what Keras writes of Hugging Face's TensorFlow model."""
    tensors = {f"vit/{name}:0": part for canonical, value in values.items()
               for name, part in HF_KERAS.split(canonical, value, CONFIG).items()}
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"vit"]
        file.create_group("vit").attrs["weight_names"] = [name.encode() for name in tensors]
        for name, value in tensors.items():
            file["vit"][name] = value


@st.composite
def changed_tensors(draw, values: dict[str, np.ndarray], most: int = 3) -> dict[str, np.ndarray]:
    """Tensors of which some were renamed, dropped, added, reshaped, retyped or given odd values."""
    values = dict(values)
    for _ in range(draw(st.integers(1, most))):
        if not values:
            break
        name = draw(st.sampled_from(sorted(values)))
        how = draw(st.sampled_from(["rename", "near", "drop", "add", "shape", "type", "value", "prefix"]))
        own = values[name]
        if how == "rename":
            values[encodable(draw(texts))] = values.pop(name)
        elif how == "near":
            block = draw(st.sampled_from(["1", "2", "-1", "00", "7", "99999", "9" * 30, "\u0661"]))
            values[name.replace("0", block, 1)] = values.pop(name)
        elif how == "drop":
            del values[name]
        elif how == "add":
            values[encodable(draw(texts))] = own
        elif how == "shape":
            own = np.atleast_1d(own)
            values[name] = draw(st.sampled_from([own[..., :0], own[None], own.reshape(-1), own[:1], own.T,
                                                 np.repeat(own, 3, 0), np.ones((), own.dtype)]))
        elif how == "type":
            dtype = draw(st.sampled_from(["float64", "float16", "int64", "int32", "int8", "uint8", "bool"]))
            values[name] = np.nan_to_num(own).astype(dtype)
        elif how == "value":
            values[name] = own.copy()
            if own.size and own.dtype.kind == "f":
                values[name].reshape(-1)[-1] = draw(st.sampled_from([np.nan, np.inf, -np.inf, 3e38, 1e-45, -0.0]))
        else:
            prefix = draw(st.sampled_from(["module.", "vit.", "model.", "backbone.", "encoder."]))
            values = {prefix + name: value for name, value in values.items()}
    return values


def safetensors(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """A file whose checksum is right, whatever it holds."""
    from vit.files.safetensors import write_tensors
    file = io.BytesIO()
    write_tensors(file, tensors, metadata)
    return file.getvalue()


def manifest(spec: object) -> dict[str, str]:
    """The metadata of a file of this project's."""
    return {"format": canonical.FORMAT, "spec": json.dumps(spec)}
