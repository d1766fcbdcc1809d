"""What a model looks at in an image, from its attention weights or its gradients; in numpy, once for all frameworks.

Legend: B batch, L blocks, H heads, N tokens, G patches along an edge, S image size, C channels.
"""
import importlib
import os

import numpy as np

from vit.backend import load_script
from vit.errors import UserError
from vit.model.config import ViTConfig
from vit.use import formats
from vit.use.classifier import Classifier, probabilities


class Explained(Classifier):
    """The model of a file whose inside is looked at too.

    Args:
        path: A file of weights, of any kind that `vit.convert.read` takes.
        backend: "torch", "tf" or "ms".

    Raises:
        UserError: As of `vit.use.classifier.Classifier`.
    """

    def __init__(self, path: str | os.PathLike, backend: str = "torch") -> None:
        if kind := formats.kind_of(path):
            raise UserError(f"{path}: is exported ({formats.FORMATS[kind].title}), and shows nothing of its inside; "
                            "name the weights")
        super().__init__(path, backend, 1)
        name = load_script(backend).backend.__name__.rpartition(".")[2]
        room = importlib.import_module(f"vit.backend.explainer.{name}")
        self._explainer = room.Explainer(self._vit)

    def explain(self, pixels: np.ndarray, method: str) -> tuple[np.ndarray, np.ndarray]:
        """Compute a map of an image, and the probabilities of its classes.

        Args:
            pixels: uint8 [S, S, 3], of `pixels`.
            method: "attention": [L, H, G, G], what the token that is classified takes of each patch, in each block and
                head; the mean of all tokens that are, where it is their mean. "rollout": [G, G], the same through all
                blocks at once. "gradient": [S, S], how much the likeliest class's logit changes with a pixel, in the
                channel where it changes most (Simonyan et al. 2014).

        Returns:
            The map, and the probabilities [classes].
        """
        x = self._normalized(pixels[None])
        found = probabilities(self._explainer.logits(x))[0]
        if method == "gradient":
            return saliency(self._explainer.gradient(x, found.argmax(keepdims=True)))[0], found
        weights = self._explainer.attention(x)
        return (of_patches(weights, self.config) if method == "attention" else
                of_patches(rollout(weights), self.config))[0], found


def rollout(attention: np.ndarray) -> np.ndarray:
    """Follow attention through all blocks (Abnar & Zuidema 2020, section 3): half of a token is the one before.

    Args:
        attention: Weights of the blocks [B, L, H, N, N].

    Returns:
        How much of each token at the start is in each at the end: [B, N, N]; each row adds up to 1.
    """
    mean = attention.mean(axis=2)  # of the heads
    steps = (mean + np.eye(mean.shape[-1], dtype=mean.dtype)) / 2
    whole = steps[:, 0]
    for i in range(1, steps.shape[1]):
        whole = steps[:, i] @ whole
    return whole


def of_patches(weights: np.ndarray, config: ViTConfig) -> np.ndarray:
    """Give what goes from the patches to what is classified: [..., G, G].

    Args:
        weights: From tokens (the last axis) to tokens (the one before), [..., N, N].
        config: The model's spec, which says which tokens are classified.
    """
    rows = weights[..., config.pooled, int(config.class_token):].mean(axis=-2)
    return rows.reshape(*rows.shape[:-1], config.grid, config.grid)


def saliency(gradient: np.ndarray) -> np.ndarray:
    """The largest absolute value of the channels: from [B, S, S, C] to [B, S, S]."""
    return np.abs(gradient).max(axis=-1)
