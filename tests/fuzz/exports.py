"""Exported models that are damaged, and whole ones whose manifest is another's, for `vit evaluate` and `vit predict`.

The models are toys: runtimes see only what has the sums that it was written with, and of those ONNX and OpenVINO alone.
"""
import functools
import io
import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.case import Case
from tests.fuzz.mutations import changed_bytes, json_text
from vit.files.usage import Preprocessing, Usage
from vit.model.config import ViTConfig
from vit.use.formats import FORMATS, Manifest
from vit.use.seal import seal

CONFIG = ViTConfig(image_size=16, patch_size=8, width=16, depth=1, heads=2, mlp_dim=24, num_classes=10)
USAGE = Usage(tuple("0123456789"), Preprocessing((0.2,) * 3, (0.3,) * 3), {"data": "digits10"})
_MANIFEST = json.loads(Manifest(CONFIG, USAGE, None, False).to_json())
_KINDS = ("onnx", "openvino", "litert", "mindir", "savedmodel")


def _image() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3)).save(file, "PNG")
    return file.getvalue()


@functools.cache
def _onnx(manifest: str) -> bytes:
    """A linear model."""
    from onnx import TensorProto, checker, helper, numpy_helper
    matrix = np.random.default_rng(0).normal(size=(768, 10)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["images"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["scores"])],
        "toy", [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(matrix, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"vit": manifest})
    checker.check_model(model)
    return model.SerializeToString()


def _openvino(path: Path, manifest: str) -> None:
    """The same model."""
    from vit.backend.runtime.openvino import FILE, openvino
    path.with_name("m.onnx").write_bytes(_onnx(manifest))
    model = openvino.convert_model(path.with_name("m.onnx"))
    model.set_rt_info(manifest, ["vit"])
    openvino.save_model(model, path / FILE, compress_to_fp16=False)


@functools.cache
def whole(kind: str, manifest: str) -> dict[str, bytes]:
    """An export with its sums, by name: one file, or those of a folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"m{FORMATS[kind].suffix}")
        if kind == "openvino":
            _openvino(path, manifest)
        elif kind == "savedmodel":
            (path / "variables").mkdir(parents=True)
            for name in ("saved_model.pb", "variables/variables.index", "vit.json"):
                (path / name).write_bytes(manifest.encode())
        else:
            path.write_bytes(_onnx(manifest) if kind == "onnx" else b"\x1c\0\0\0TFL3" + bytes(range(256)))
        if kind == "litert":
            with zipfile.ZipFile(path, "a") as archive:
                archive.writestr("vit.json", manifest)
        seal(path, kind)
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@st.composite
def _damaged(draw) -> dict[str, bytes]:
    """An export of any form of which a file was changed, lost, or is too many."""
    kind = draw(st.sampled_from(_KINDS))
    files = dict(whole(kind, json.dumps(_MANIFEST)))
    name = draw(st.sampled_from(sorted(files)))
    how = draw(st.sampled_from(["change", "change", "change", "lose", "add"] if len(files) > 1 else ["change"]))
    if how == "change":
        files[name] = draw(changed_bytes(files[name]))
    elif how == "lose":
        del files[name]
    else:
        files[draw(st.sampled_from(["m/saved_model.cpb", "m/x", "m/a/b", "m/variables/variables.data-0"]))] = b"x"
    assume(files != whole(kind, json.dumps(_MANIFEST)))
    return files


@st.composite
def _other(draw) -> dict[str, bytes]:
    """A whole export whose manifest is nearly one of its model."""
    if draw(st.booleans()):
        text = draw(json_text(_MANIFEST)).decode("utf-8", "replace").replace("\0", "0")
    else:  # possible, and of another model
        spec = draw(st.sampled_from([{"image_size": 32}, {"num_classes": 3}, {"in_channels": 1}, {}]))
        text = json.dumps(_MANIFEST | {
            "spec": CONFIG.to_dict() | spec, "batch": draw(st.sampled_from([None, 1, 3, 10**6])),
            "usage": json.loads(Usage(None, USAGE.preprocessing).to_json()), "preprocess": draw(st.booleans())})
    return whole.__wrapped__(draw(st.sampled_from(["onnx", "onnx", "openvino"])), text)


@st.composite
def _cases(draw) -> Case:
    files = draw(st.one_of(_damaged(), _damaged(), _other()))
    source = next(iter(files)).split("/")[0]
    if draw(st.integers(0, 3)):
        arguments = ("predict", source, "a.png", *draw(st.sampled_from([(), ("--json",), ("--top_k", "99")])))
    else:
        arguments = ("evaluate", source, "--data", "digits")
    if draw(st.integers(0, 4)) == 0:
        arguments += ("--backend", draw(st.sampled_from(["onnx", "openvino", "litert", "torch"])))
    return Case("runtimes.vit", arguments, files | {"a.png": _image()}, (source, "classes"))


cases = _cases()
