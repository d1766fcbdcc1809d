"""The JSON files beside Hugging Face's weights: `config.json` and `preprocessor_config.json`."""
import json
from pathlib import Path

from vit.convert.reporting import Report
from vit.convert.source_file import Source
from vit.errors import UserError, one_line
from vit.files.untrusted import MAX_HEADER_BYTES, reading
from vit.files.usage import Preprocessing, Usage

FILES = ("model.safetensors", "pytorch_model.bin", "tf_model.h5")  # of weights
PREPROCESSOR = "preprocessor_config.json"
SETTINGS = ("config.json", PREPROCESSOR)  # beside one of them
_FILTERS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_HALF = (0.5, 0.5, 0.5)  # transformers' own mean and deviation for ViT


def read_settings(path: Path, name: str = "config.json") -> dict | None:
    """Read a JSON file beside a file of weights; None if there is none.

    Raises:
        UserError: It is there, but it is no JSON object.
    """
    path = path.with_name(name)
    if not path.is_file():
        return None
    with reading(path, "JSON file"):
        if path.stat().st_size > MAX_HEADER_BYTES:
            raise ValueError("too long")
        settings = json.loads(path.read_bytes())
        if not isinstance(settings, dict):
            raise ValueError("no object")
    return settings


def read_usage(source: Source, report: Report) -> Usage:
    """Tell how a model is used from the names of its labels and from its image processor's settings.

    Args:
        source: The file; its `settings` are read.
        report: Gets a note where they say something that cannot be expressed.
    """
    classes, labels = None, (source.settings or {}).get("id2label")
    if isinstance(labels, dict) and labels and set(labels) == set(map(str, range(len(labels)))):
        names = tuple(labels[str(i)] for i in range(len(labels)))
        if names != tuple(f"LABEL_{i}" for i in range(len(labels))):  # which stands for no name
            classes = names
    fields, preprocessing = read_settings(source.path, PREPROCESSOR), None
    size = (source.settings or {}).get("image_size", 224)  # transformers' default
    try:
        preprocessing = None if fields is None else _preprocessing(fields, size)
    except (ValueError, TypeError) as error:
        report.notes.append(f"what {PREPROCESSOR} says cannot be expressed here ({one_line(error)})")
    try:
        return Usage(classes, preprocessing)
    except ValueError as error:
        raise UserError(f"{source.path.with_name('config.json')}: {one_line(error)}") from None


def _preprocessing(fields: dict, image_size: object) -> Preprocessing:
    for step in ("do_resize", "do_rescale"):
        if not fields.get(step, True):
            raise ValueError(f"{step} is false")
    size, crop_pct = fields.get("size"), None
    if isinstance(size, dict) and set(size) == {"shortest_edge"} and fields.get("do_center_crop"):
        crop_pct = _share(size["shortest_edge"], fields.get("crop_size"), image_size)
    elif fields.get("do_center_crop") or (isinstance(size, dict) and set(size) != {"height", "width"}):
        # DeiT's stretches to 256 x 256 and crops 224 x 224.
        raise ValueError("it neither stretches the whole image nor crops the middle of one that keeps its shape")
    factor = fields.get("rescale_factor", 1 / 255)
    if not isinstance(factor, float) or abs(factor * 255 - 1) > 1e-6:
        raise ValueError(f"rescale_factor is {factor}, not 1/255")
    mean, std = _HALF, _HALF
    if not fields.get("do_normalize", True):
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    else:
        mean, std = (tuple(fields.get(name, _HALF)) for name in ("image_mean", "image_std"))
    return Preprocessing(mean, std, crop_pct, _FILTERS.get(fields.get("resample", 2), "unknown"))


def _share(edge: object, crop: object, image_size: object) -> float:
    """The share of an image's shorter edge that is left of it, where it is resized to `edge` and then cropped."""
    crop = crop.get("height") if isinstance(crop, dict) and crop.get("height") == crop.get("width") else crop
    if not (isinstance(edge, int) and isinstance(crop, int) and 0 < crop <= edge and crop == image_size):
        raise ValueError(f"it crops {crop} out of {edge} pixels, and the model sees {image_size}")
    return crop / edge


def preprocessor(preprocessing: Preprocessing, size: int) -> dict:
    """Give the settings of transformers' ViTImageProcessor.

    Args:
        preprocessing: What becomes of an image.
        size: Of the model's images, pixels.
    """
    filters = {name: number for number, name in _FILTERS.items()}
    return {"image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": size, "width": size},
            "resample": filters[preprocessing.interpolation], "do_rescale": True, "rescale_factor": 1 / 255,
            "do_normalize": True, "image_mean": list(preprocessing.mean), "image_std": list(preprocessing.std)}
