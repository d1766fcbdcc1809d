"""Models in a line each, in any framework, under the names that other projects' hubs have.

    from vit import hub
    classify = hub.pipeline("image_classification", "runs/demo-torch", backend="tf")
    classify("photos/7.png", top_k=2)                     # [{"label": "7", "score": 0.93}, ...]
    classify.features(["photos/7.png", "photos/8.png"])   # float32 [2, D]
    model = hub.from_pretrained("vit_b_16_224", backend="ms")

Importing it imports no framework.
"""
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vit import convert
from vit.backend import load_script
from vit.data import image_folder
from vit.errors import UserError
from vit.model.config import VARIANTS
from vit.use.classifier import BATCH_SIZE, likeliest
from vit.use.exported import open_model

TASK = "image_classification"
OneImage = str | os.PathLike | np.ndarray | Image.Image


def list_models() -> list[str]:
    """Name the variants that there are; `vit list` says more of each."""
    return list(VARIANTS)


def from_pretrained(model: str | os.PathLike, backend: str = "torch"):
    """Make a framework's model: `ViT` of `vit_torch.py`, `vit_tf.py` or `vit_ms.py`.

    Args:
        model: A file of weights, a checkpoint, a folder of Hugging Face or of a run, or an address, as
            `vit.convert.read` takes them; or the name of a variant, whose weights are then seed 0's initial ones.
        backend: "torch", "tf" or "ms".

    Raises:
        UserError: There is no such model, or its framework is not installed.
    """
    script = load_script(backend)
    if str(model) in VARIANTS and not os.path.exists(model):
        return script.ViT(str(model))
    weights, config, _ = convert.read(model)
    return script.ViT(config, weights=weights)


def pipeline(task: str, model: str | os.PathLike, backend: str | None = None,
             batch_size: int = BATCH_SIZE) -> "ImageClassifier":
    """Make a function of images.

    Args:
        task: "image_classification", or as Hugging Face writes it, "image-classification".
        model: As of `from_pretrained`, a variant aside; or what `vit export` has written.
        backend: "torch", "tf" or "ms", or the form of an exported model; None for the file's own, or else "torch".
        batch_size: Images that are computed at a time.

    Raises:
        UserError: There is no such task or model, or what runs it is not installed.
    """
    if task.replace("-", "_") != TASK:
        raise UserError(f"unknown task {task!r}: {TASK} is the one that there is")
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    return ImageClassifier(model, backend, batch_size)


class ImageClassifier:
    """A function from images to their likeliest classes.

    Attributes:
        model: The model, `vit.use.classifier.Model`; its `classes`, `preprocessing` and `notes` say how it is used.
    """

    def __init__(self, model: str | os.PathLike, backend: str | None, batch_size: int) -> None:
        self.model = open_model(model, backend, batch_size)

    def __call__(self, images: OneImage | Sequence[OneImage], top_k: int = 5) -> list:
        """Name the likeliest classes.

        Args:
            images: A path, a PIL image, or an array, uint8 [h, w, 3]; or several of them, also as uint8 [n, h, w, 3].
            top_k: Classes that are named.

        Returns:
            Of one image its classes, the likeliest first, as {"label": name, "score": probability}; of several a list
            of such lists.

        Raises:
            UserError: An image cannot be read.
        """
        if top_k < 1:
            raise UserError(f"top_k must be at least 1, not {top_k}")
        found = [[{"label": name, "score": probability} for name, probability in named]
                 for named in likeliest(self.model, self._pixels(images), top_k)]
        return found[0] if _is_one(images) else found

    def features(self, images: OneImage | Sequence[OneImage]) -> np.ndarray:
        """Compute what the head is given: the class token's last state, or the pooled tokens.

        Args:
            images: As of a call.

        Returns:
            float32 [n, D]; of one image [D].

        Raises:
            UserError: An image cannot be read, or the model is an exported one, which gives no more than its scores.
        """
        if not hasattr(self.model, "features"):
            raise UserError("an exported model gives no features: make the pipeline from its weights")
        found = self.model.features(self._pixels(images))
        return found[0] if _is_one(images) else found

    def _pixels(self, images: OneImage | Sequence[OneImage]) -> np.ndarray:
        read = [self.model.pixels(_read(image)) for image in ([images] if _is_one(images) else images)]
        size = self.model.config.image_size
        return np.stack(read) if read else np.zeros((0, size, size, 3), np.uint8)


def _is_one(images: OneImage | Sequence[OneImage]) -> bool:
    return isinstance(images, str | os.PathLike | Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4)


def _read(image: OneImage) -> np.ndarray:
    """An image's pixels, uint8 [h, w, 3]."""
    if isinstance(image, str | os.PathLike):
        pixels, fault = image_folder.attempt(Path(image))
        if fault is not None:
            raise UserError(f"{image}: {fault}")
        return pixels
    if isinstance(image, Image.Image):
        return image_folder.rgb(image)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return image
    what = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
    raise UserError(f"an image is a path, a PIL image, or an array, uint8 [h, w, 3], not {what}")
