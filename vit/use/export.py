"""Export a file's model by a framework's own exporter, and hold what its runtime computes to the oracle."""
import contextlib
import importlib
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vit.backend import load_script
from vit.data.augmentation import normalized
from vit.data.sets import Images
from vit.errors import UserError
from vit.files.staging import staged
from vit.files.usage import Usage
from vit.model import oracle
from vit.model.config import ViTConfig
from vit.model.parameters import Weights
from vit.use.classifier import ASSUMED, probabilities
from vit.use.evaluation import evaluate
from vit.use.exported import Exported, load_runtime
from vit.use.formats import FORMATS, Manifest, require
from vit.use.seal import seal

BAR = 1e-5


@dataclass(frozen=True)
class Checked:
    """What was found when an exported model was tried.

    Args:
        difference: The largest one of its scores to the oracle's, relative to the largest of these.
        images: How many images it was tried on.
        runtime: What ran it.
    """
    difference: float
    images: int
    runtime: str


def export(weights: Weights, config: ViTConfig, usage: Usage, kind: str, path: str | os.PathLike,
           images: np.ndarray, batch: int | None = None, preprocess: bool = False, bar: float = BAR) -> Checked:
    """Write an exported model, whole, and only if its runtime computes what the weights say.

    Args:
        weights: Canonical weights.
        config: Their spec.
        usage: How the model is used; it travels with the export.
        kind: The form, one of `vit.use.formats.FORMATS`.
        path: The file or folder to write.
        images: What the model sees, on which it is tried: uint8 [n, S, S, 3].
        batch: Images that it shall take at a time; None for any number.
        preprocess: Whether it shall take pixels, uint8 [B, S, S, 3], and give probabilities, and not normalized images,
            float32, and logits.
        bar: How far its scores may be from the oracle's, relative to the largest.

    Raises:
        UserError: Something that is needed is not installed; there is no room for the file; or what was exported
            computes something else.
    """
    form = FORMATS[kind]
    check_name(kind, path)
    require(kind, *form.writes, *form.runs)
    script = load_script(form.backend)
    name = script.backend.__name__.rpartition(".")[2]
    exporter = importlib.import_module(f"vit.backend.exporter.{name}")
    load_runtime(kind)
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    model, size = script.ViT(config, weights=weights), config.image_size
    how = usage.preprocessing or ASSUMED
    if preprocess:
        usage, image = replace(usage, preprocessing=how), np.zeros((size, size, 3), np.uint8)
        mean, std = np.float64(how.mean), np.float64(how.std)
        served = importlib.import_module(f"vit.backend.served.{name}")
        model = served.Served(model, np.float32(1 / (255 * std)), np.float32(-mean / std))
    else:
        image = np.zeros((3, size, size) if form.channels_first else (size, size, 3), np.float32)
    manifest = Manifest(config, usage, batch, preprocess)
    _check_disk(path, sum(value.nbytes for value in weights.values()))
    with staged(path) as place:
        expected = oracle.forward(config, weights, normalized(images, how.mean, how.std, False))["logits"]
        expected = probabilities(expected) if preprocess else expected
        getattr(exporter, f"write_{kind}")(model, place, image, batch, manifest.to_json())
        seal(place, kind)
        found = Exported(place, kind)
        difference = _difference(found, images, expected)
        if not difference <= bar:
            raise UserError(f"{path}: not written: in {found.runtime} its scores differ by {difference:.1e} of the "
                            f"largest from the weights' own, and the bar is {bar:.0e}")
    return Checked(difference, len(images), found.runtime)


@dataclass(frozen=True)
class Quantized:
    """What was found when a quantized model was tried.

    Args:
        before: Top-1 accuracy of the model in float32.
        after: Top-1 accuracy of the quantized one.
        images: How many images that was measured on.
        bytes: Of its file.
    """
    before: float
    after: float
    images: int
    bytes: int


def export_int8(weights: Weights, config: ViTConfig, usage: Usage, path: str | os.PathLike, images: np.ndarray,
                evaluated: Images, max_loss: float, batch: int | None = None,
                preprocess: bool = False) -> tuple[Checked, Quantized]:
    """Write an ONNX file with weights of int8, whole, and only if it classifies about as well.

    Args:
        weights: As of `export`, and so are config, usage, path, images, batch and preprocess. The file is written in
            float32 first, and held to the weights as there.
        evaluated: The images on which accuracy is measured, before and after.
        max_loss: How much of top-1 accuracy may be lost, of 1.

    Raises:
        UserError: As of `export`; or more is lost.
    """
    require("onnx", *FORMATS["onnx"].writes, *FORMATS["onnx"].runs)
    with staged(path) as place:
        whole = place.with_name("float32.onnx")
        checked = export(weights, config, usage, "onnx", whole, images, batch, preprocess)
        opened = Exported(whole, "onnx")
        writer = importlib.import_module("vit.backend.exporter.onnx_int8")
        writer.write(whole, place, replace(opened.manifest, quantized="int8").to_json())
        seal(place, "onnx")
        before, after = (evaluate(model, evaluated).result()["top1"] for model in (opened, Exported(place, "onnx")))
        if before - after > max_loss:
            raise UserError(f"{path}: not written: with int8 top-1 on {len(evaluated)} images is {after:.2%} and not "
                            f"{before:.2%}, and --max_loss allows {100 * max_loss:g} points to be lost")
        return checked, Quantized(before, after, len(evaluated), place.stat().st_size)


def check_name(kind: str, path: str | os.PathLike) -> None:
    """Refuse a name that the form's readers would not take.

    Raises:
        UserError: It ends otherwise.
    """
    suffix = FORMATS[kind].suffix
    if suffix and Path(path).suffix != suffix:
        raise UserError(f"{path}: the names of {FORMATS[kind].title} files end in {suffix}")


def _check_disk(path: str | os.PathLike, size: int) -> None:
    """Refuse to write weights of so many bytes where there is no room: the exporters' own errors are no lines."""
    with contextlib.suppress(OSError):  # the folder is missing, which is said later
        free, needed = shutil.disk_usage(Path(path).parent).free, 3 * size // 2 + (16 << 20)
        if free < needed:
            raise UserError(f"{path}: not written: it takes up to {needed / 1e6:,.0f} MB while it is made, and "
                            f"{free / 1e6:,.0f} MB are free there")


def _difference(found: Exported, images: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference of scores, relative to the largest score: of all images at once, and of one alone."""
    batch, differences = found.manifest.batch, []
    for some in [images] if batch else [images, images[:1]]:
        found.sizes = (batch or len(some), )
        differences.append(np.abs(found.scores(some) - expected[:len(some)]).max())
    return float(np.max(differences) / np.abs(expected).max())
