"""Checkpoints whose state or tensors were changed, under a checksum that is right: listed, resumed, converted."""
import functools
import json
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from tests.fuzz.case import Case
from tests.fuzz.mutations import changed_bytes, encodable, json_text, texts
from tests.fuzz.tensors import changed_tensors, safetensors
from vit import checkpoints
from vit.checkpoints import Checkpoint
from vit.data import fingerprint, load
from vit.files.safetensors import open_tensors
from vit.model import parameters
from vit.model.config import VARIANTS
from vit.training.recipe import Recipe

_STEP, _NAME = 3, "run/checkpoints/pretrain-00000003.safetensors"
_RECIPE = Recipe(data="digits", variant="tiny", batch_size=4, pretrain_epochs=2, train_steps_per_epoch=2,
                 eval_steps_per_epoch=1)
_PLACES = ("0.Checkpoints", "1.BestModelSaver", "2.Traceability", "0.EMA", "3.Accuracy", "9.X")  # of traces
_ATTRIBUTES = ("wait", "save_dir", "model", "best", "inputs", "system", "on_begin", "x")
_EPOCH = {"epoch": 1, "learning_rate": 0.01, "train_loss": 2.0, "train_seconds": 1.5, "step_seconds": None,
          "images_per_second": None, "eval_loss": 1.9, "accuracy": 0.25, "top5": 0.5, "eval_seconds": 0.5}


@functools.cache
def _whole() -> tuple[bytes, dict[str, np.ndarray], dict[str, str], dict]:
    """A checkpoint in the second epoch: its bytes, its tensors, its metadata and its state."""
    data = load("digits")
    config = VARIANTS["tiny"].replace(num_classes=len(data.pretrain.classes), image_size=data.pretrain.train.image_size)
    values = parameters.initial(config, 0)
    zeros = {name: np.zeros_like(value) for name, value in values.items()}
    whole = Checkpoint(
        "pretrain", "training", 2, _STEP, 1, _STEP, config, values, zeros, zeros, None, 0.25,
        [0.25, "pretrain-00000002.safetensors"], _RECIPE.to_dict(),
        {"data_dir": None, "pretrained": None, "skip_bad_images": False, "compare_scratch": False},
        {"epochs": [_EPOCH], "step_sizes": [4] * _STEP, "first_steps": [0, 2]},
        {"step_losses": np.full(_STEP, 2.0), "gradient_norms": np.full(_STEP, 0.5)}, {}, None, "torch",
        fingerprint.fingerprint(data))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, Path(_NAME).name)
        checkpoints.save(path, whole)
        lazy, metadata = open_tensors(path)
        metadata.pop("checksum")
        tensors = {name: tensor.load() for name, tensor in lazy.items()}
        return path.read_bytes(), tensors, metadata, json.loads(metadata["state"])


@st.composite
def _file(draw) -> bytes:
    data, tensors, metadata, state = _whole()
    how = draw(st.sampled_from(["state", "state", "state", "traces", "tensors", "metadata", "bytes"]))
    if how == "bytes":
        return draw(changed_bytes(data))
    if how == "tensors":
        tensors = draw(changed_tensors(tensors))
    elif how == "metadata":
        metadata = metadata | {draw(st.sampled_from(["format", "state", "sha256"])): encodable(draw(texts))}
    else:
        if how == "traces":
            place, attribute = draw(st.sampled_from(_PLACES)), draw(st.sampled_from(_ATTRIBUTES))
            state = state | {"traces": {place: {attribute: 1}},
                             "loss_scale": {"scale": 65536.0, "good_steps": 3, "skipped": 1}}
        metadata = metadata | {"state": draw(json_text(state, 2)).decode("utf-8", "replace")}
    return safetensors(tensors, metadata)


@st.composite
def _cases(draw) -> Case:
    name = draw(st.sampled_from([_NAME] * 8 + [_NAME.replace("3.s", "4.s"), "run/checkpoints/a\nb-00000003.safetensors",
                                               "run/checkpoints/x.safetensors", "pretrain-00000003.safetensors"]))
    files = {name: draw(_file())}
    if draw(st.booleans()):
        files["run/checkpoints/pretrain-00000009.safetensors"] = _whole()[0]  # of another step
    how = draw(st.sampled_from(["list", "auto", "file", "file", "convert", "pretrained"]))
    if how == "list":
        return Case("commands.vit", ("checkpoints", "run"), files, written="none")
    if how == "convert":
        return Case("commands.convert", (name, "out"), files)
    if how == "pretrained":
        return Case("script.prepare", ("--data", "digits", "--pretrained", name, "--model_dir", "out"), files)
    where = ("--resume", "auto", "--model_dir", "run") if how == "auto" else ("--resume", name)
    entry = draw(st.sampled_from(["prepare"] * 9 + ["train"]))
    return Case(f"script.{entry}", where, files, written="run", keeps=entry == "train")


cases = _cases()
