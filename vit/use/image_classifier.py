"""A function from images, in whatever form they come, to their likeliest classes."""
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from vit.data.arrays import pixels
from vit.errors import UserError
from vit.use.classifier import batch_sizes, likeliest
from vit.use.exported import open_model

OneImage = str | os.PathLike | np.ndarray | Image.Image


class ImageClassifier:
    """A function from images to their likeliest classes.

    Attributes:
        model: The model, `vit.use.classifier.Model`; its `classes`, `preprocessing` and `notes` say how it is used.
    """

    def __init__(self, model: object, backend: str | None, batch_size: int) -> None:
        self.model = open_model(model, backend, batch_size)
        self.model.sizes = batch_sizes(self.model, batch_size)

    def __call__(self, images: OneImage | Sequence[OneImage], top_k: int = 5) -> list:
        """Name the likeliest classes.

        Args:
            images: A path, a PIL image, or an array, uint8 [h, w, 3] or, of a grey one, [h, w] or [h, w, 1]; or several
                of them: a list, or an array, uint8 [n, h, w, 3] or, of grey ones, [n, h, w] or [n, h, w, 1].
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
        read = [self.model.pixels(pixels(image)) for image in ([images] if _is_one(images) else images)]
        size = self.model.config.image_size
        return np.stack(read) if read else np.zeros((0, size, size, 3), np.uint8)


def _is_one(images: OneImage | Sequence[OneImage]) -> bool:
    if isinstance(images, np.ndarray):
        return images.ndim < 3 or (images.ndim == 3 and images.shape[2] <= 4)  # with channels; else grey ones
    return isinstance(images, str | os.PathLike | Image.Image)
