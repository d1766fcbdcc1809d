"""A file's model in a framework, computed in batches of few sizes."""
import os

import numpy as np

from vit.backend import SCRIPTS, TITLES
from vit.use import formats
from vit.use.classifier import batch_sizes, probabilities
from vit.use.explain import Explained
from vit.use.exported import open_model


class Served:
    """A model that answers.

    Args:
        path: A file of weights, or an exported model.
        backend: One of `vit.use.formats.BACKENDS`; None for the file's own, which is "torch" for weights.
        max_batch: Images that are computed at a time, at most.

    Attributes:
        model: The model, `vit.use.classifier.Model`.
        explains: Whether it shows what it looks at: an exported one does not.

    Raises:
        UserError: As of `vit.use.exported.open_model`.
    """

    def __init__(self, path: str | os.PathLike, backend: str | None, max_batch: int) -> None:
        self.explains = formats.kind_of(path) is None and backend in (None, *SCRIPTS)
        if self.explains:
            self.model = Explained(path, backend or "torch")
        else:
            self.model = open_model(path, backend, max_batch)
        self.model.sizes = batch_sizes(self.model, max_batch)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of batches, ascending."""
        return self.model.sizes

    @property
    def title(self) -> str:
        """The framework, as people write it."""
        name = self.model.backend
        return TITLES[name] if name in TITLES else formats.FORMATS[name].title

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Compute the probabilities of the classes, float64 [n, classes].

        Args:
            pixels: uint8 [n, S, S, 3], of the model's `pixels`; n is at most `max_batch`.
        """
        return probabilities(self.model.logits(pixels))

    def attention(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute the attention rollout of an image, [G, G], and the probabilities of its classes, [classes].

        Args:
            pixels: uint8 [S, S, 3], of the model's `pixels`.
        """
        return self.model.explain(pixels, "rollout")
