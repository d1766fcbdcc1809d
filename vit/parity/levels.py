"""The levels of one pass: what each backend computes of the same weights and images, stage by stage."""
import dataclasses

import cv2
import numpy as np

from vit.backend import load_script
from vit.data import DataPair, Dataset, Images, digits
from vit.model import oracle
from vit.model.config import ViTConfig, stage_names
from vit.model.parameters import Weights
from vit.parity.differences import Row, row


def sample_images(config: ViTConfig, count: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Real handwritten digits at a model's image size, normalized, and labels within its classes.

    Returns:
        [count, S, S, C] of the dtype, and int64 [count].
    """
    pair = digits_for(config)
    images = (pair.finetune.test.images[:count] / 255.0 - pair.mean[0]) / pair.std[0]
    return images.astype(dtype), pair.finetune.test.labels[:count]


def stages(backend: str, config: ViTConfig, weights: Weights, images: np.ndarray,
           key: np.ndarray | None = None) -> list[np.ndarray]:
    """Every stage of one backend's forward pass, with keys or without dropout, in the dtype of the images."""
    if backend == "numpy":
        return list(oracle.forward(config, weights, images, key=key).values())
    script = load_script(backend)
    return script.backend.run_stages(script.ViT(config, str(images.dtype), weights=weights), images, key)


def gradients(backend: str, config: ViTConfig, weights: Weights, images: np.ndarray,
              labels: np.ndarray) -> tuple[float, Weights]:
    """One backend's mean loss and its gradients, dropout off, in the dtype of the images."""
    script = load_script(backend)
    model = script.ViT(config, str(images.dtype), weights=weights)
    loss, tensors = script.backend.loss_gradients(model, script.parameters(model), images, labels)
    return loss, script.to_numpy(model, tensors)


def forward_rows(config: ViTConfig, a: list[np.ndarray], b: list[np.ndarray], bar: float) -> list[Row]:
    """Compare two forward passes stage by stage."""
    return [row(name, *pair, bar) for name, *pair in zip(stage_names(config), a, b, strict=True)]


def gradient_rows(a: tuple[float, Weights], b: tuple[float, Weights], bar: float) -> list[Row]:
    """Compare two losses and their gradients parameter by parameter."""
    return [row("loss", a[0], b[0], bar), *(row(name, a[1][name], b[1][name], bar) for name in b[1])]


def digits_for(config: ViTConfig) -> DataPair:
    """The digits at a model's image size, with labels within its classes."""
    pair = digits.load()

    def fit(part: Images) -> Images:
        size = config.image_size
        images = part.images if size == 32 else np.stack([cv2.resize(image, (size, size)) for image in part.images])
        return Images(images[..., :config.in_channels], part.labels % config.num_classes)

    fitted = Dataset("digits10", pair.finetune.classes, fit(pair.finetune.train), fit(pair.finetune.test))
    return dataclasses.replace(pair, finetune=fitted)
