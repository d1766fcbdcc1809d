"""Files of weights of every kind that `vit convert` reads, changed in their headers, pickles, archives and tensors."""
import io
import json
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from tests.fuzz.case import Case
from tests.fuzz.mutations import changed_bytes, changed_pickle, changed_zip, json_text
from tests.fuzz.tensors import (
    CONFIG,
    SPEC,
    changed_tensors,
    manifest,
    safetensors,
    save_keras,
    save_torch,
    weights,
    whole,
)
from vit.convert import protobuf
from vit.convert.layouts import GOOGLE, MINDCV
from vit.model.parameters import shapes

_KINDS = ("canonical", "timm", "npz", "mindspore", "torch", "legacy", "hf", "timm_hub", "hdf5")


@st.composite
def _safetensors(draw, kind: str) -> dict[str, bytes]:
    (name, data), = whole(kind).items()
    length = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8:8 + length]), data[8 + length:]
    how = draw(st.sampled_from(["header", "header", "tensors", "bytes", "length"]))
    if how == "bytes":
        return {name: draw(changed_bytes(data))}
    if how == "length":
        claim = draw(st.sampled_from([0, 1, length - 1, length + 8, 1 << 24, 1 << 40, (1 << 64) - 1]))
        return {name: struct.pack("<Q", claim) + data[8:]}
    if how == "tensors":
        metadata = manifest(SPEC) if kind == "canonical" else {"format": "pt"}
        return {name: safetensors(draw(changed_tensors(weights())), metadata)}
    if draw(st.booleans()):
        header.get("__metadata__", {}).pop("checksum", None)
    text = draw(json_text(header))
    left = draw(st.sampled_from([len(rest)] * 4 + [0, len(rest) - 1]))
    return {name: struct.pack("<Q", len(text)) + text + rest[:left]}


@st.composite
def _npz(draw) -> dict[str, bytes]:
    (name, data), = whole("npz").items()
    if draw(st.booleans()):
        return {name: draw(changed_zip(data, lambda _, member: _npy(member)))}
    values = {theirs: part for canonical in shapes(CONFIG)
              for theirs, part in GOOGLE.split(canonical, weights()[canonical], CONFIG).items()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for inner, value in draw(changed_tensors(values)).items():
            array = io.BytesIO()
            np.save(array, value)
            archive.writestr(f"{inner[:1000]}.npy".replace("\0", "0"), array.getvalue())
    return {name: file.getvalue()}


@st.composite
def _npy(draw, member: bytes) -> bytes:
    """A member of an npz, with another header."""
    if draw(st.booleans()) or len(member) < 128:
        return draw(changed_bytes(member, 128))
    text = member[10:128].decode("latin1")
    part = draw(st.sampled_from(["'<f4'", "False", "(", ")", "'shape'", "'descr'"]))
    other = draw(st.sampled_from(["'|O'", "'<f8'", "'<i8'", "'|V1000000'", "'<U9'", "[('a', '<f4')]", "'M8[s]'",
                                  "True", "(9" + "9" * 20 + ",", "(-1, ", "(1 << 40, ", "((((", "__import__('os')",
                                  "'", "", "None", "0", "(" * 60]))
    text = text.replace(part, other, 1).rstrip("\n ")
    header = text.encode("latin1").ljust(118)[:60_000]
    return member[:8] + struct.pack("<H", len(header)) + header + member[128:]


@st.composite
def _mindspore(draw) -> dict[str, bytes]:
    (name, data), = whole("mindspore").items()
    if draw(st.booleans()):
        return {name: draw(changed_bytes(data))}
    values = {theirs: part for canonical in shapes(CONFIG)
              for theirs, part in MINDCV.split(canonical, weights()[canonical], CONFIG).items()}
    file = io.BytesIO()
    changed = draw(changed_tensors(values))
    protobuf.write(file, {name: value for name, value in changed.items() if value.size}, {})
    return {name: file.getvalue() if draw(st.integers(0, 3)) else draw(changed_bytes(file.getvalue()))}


@st.composite
def _torch(draw, kind: str) -> dict[str, bytes]:
    (name, data), = whole(kind).items()
    how = draw(st.sampled_from(["pickle", "pickle", "tensors", "bytes"]))
    if how == "tensors":
        with tempfile.TemporaryDirectory() as folder:
            values = draw(changed_tensors(weights()))
            wrap = draw(st.sampled_from([None, None, None, "model", "state_dict", "x"]))
            save_torch(Path(folder, name), values, kind == "torch") if wrap is None else _save_wrapped(
                Path(folder, name), values, wrap, kind == "torch")
            return {name: Path(folder, name).read_bytes()}
    if kind == "torch" and how == "pickle":
        return {name: draw(changed_zip(data, lambda inner, member: changed_pickle(member) if inner.endswith("data.pkl")
                                       else changed_bytes(member)))}
    return {name: draw(changed_bytes(data, 3000, 6))}


def _save_wrapped(path: Path, values: dict, wrap: str, new: bool) -> None:
    import torch
    state = {name: torch.tensor(value) for name, value in values.items()}
    torch.save({wrap: state, "epoch": 1, "\x1b[31m": None}, path, _use_new_zipfile_serialization=new)


@st.composite
def _folder(draw, kind: str) -> dict[str, bytes]:
    files = dict(whole(kind))
    if draw(st.integers(0, 3)):
        files["m/config.json"] = draw(json_text(json.loads(files["m/config.json"])))
    else:
        name = draw(st.sampled_from(sorted(files)))
        files[name] = draw(changed_bytes(files[name]))
    return files


@st.composite
def _hdf5(draw) -> dict[str, bytes]:
    (name, data), = whole("hdf5").items()
    if draw(st.booleans()):
        return {name: draw(changed_bytes(data, 4000, 6))}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        values = {name: value for name, value in draw(changed_tensors(weights())).items()
                  if name in weights() and value.shape == weights()[name].shape}
        save_keras(path, values)
        return {name: path.read_bytes()}


_FILES = {"canonical": _safetensors("canonical"), "timm": _safetensors("timm"), "npz": _npz(),
          "mindspore": _mindspore(),
          "torch": _torch("torch"), "legacy": _torch("legacy"), "hf": _folder("hf"),
          "timm_hub": _folder("timm_hub"), "hdf5": _hdf5()}


@st.composite
def _cases(draw) -> Case:
    kind = draw(st.sampled_from([kind for kind in _KINDS for _ in range(1 if kind == "hdf5" else 4)]))
    files = draw(_FILES[kind])
    source = next(iter(files)).split("/")[0]
    arguments = [source, draw(st.sampled_from(["out", "out", "out", "out", "out.pt"])), "--heads", "2"]
    if draw(st.integers(0, 3)) == 0:
        arguments += draw(st.sampled_from([["--to", "timm"], ["--to", "npz"], ["--to", "mindspore"], ["--to", "hf"],
                                           ["--image_size", "32"], ["--num_classes", "5"], ["--grid", "2x2"],
                                           ["--grid", "1x4"], ["--quiet"]]))
    entry = "script.convert" if kind in ("torch", "legacy") or arguments[1] == "out.pt" else "commands.convert"
    return Case(entry, tuple(arguments), files, (source,), arguments[1])


cases = _cases()
