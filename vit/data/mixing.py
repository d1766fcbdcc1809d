"""Soft labels, mixup, CutMix and random erasing: augmentation of normalized images and of their labels.

What is drawn stands apart from what it does: the first is of one image and its generator, the second of whole batches.

Labels lie on a grid of 2**-24, where they add up to exactly 1 in float32, in any order. Both matter for parity:
TensorFlow's gradient of the cross entropy takes for granted that a label adds up to 1, and FastEstimator's cross
entropy for torch rounds labels to float32, even where the model computes in float64.
"""
import math
from typing import NamedTuple

import numpy as np

_GRID = 2**24


def to_grid(shares: np.ndarray) -> np.ndarray:
    """Round shares that add up to 1 to multiples of 2**-24 that do so exactly; the largest takes the remainder.

    Args:
        shares: float64 [B, classes].

    Returns:
        float32 [B, classes].
    """
    whole = np.round(shares * _GRID)
    whole[np.arange(len(whole)), whole.argmax(axis=1)] += _GRID - whole.sum(axis=1)
    return (whole / _GRID).astype(np.float32)


def soft_labels(labels: np.ndarray, classes: int, smoothing: float) -> np.ndarray:
    """Give `1 - smoothing` to the class of each label and spread `smoothing` over all: float32 [B, classes]."""
    shares = np.full((len(labels), classes), smoothing / classes)
    shares[np.arange(len(labels)), labels] += 1 - smoothing
    return to_grid(shares)


class Mix(NamedTuple):
    """How an image is mixed with its partner.

    Attributes:
        share: How much of the image and of its label stays.
        rows: Of the box that comes from the partner; None blends all pixels.
        columns: Likewise.
    """
    share: float
    rows: slice | None = None
    columns: slice | None = None


def draw_mix(size: int, mixup: float, cutmix: float, rng: np.random.RandomState) -> Mix:
    """Draw how an image is mixed: by mixup or CutMix; if both are on, toss a coin.

    Args:
        size: Height and width of the image, pixels.
        mixup: Alpha of mixup, or 0.
        cutmix: Alpha of CutMix, or 0.
        rng: The generator to draw from.
    """
    if mixup and (not cutmix or rng.random_sample() < 0.5):
        return Mix(_share(mixup, rng))
    scale = math.sqrt(1 - _share(cutmix, rng))
    rows, columns = (_side(size, scale, rng) for _ in range(2))
    return Mix(1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (size * size), rows, columns)


def _share(alpha: float, rng: np.random.RandomState) -> float:
    """Draw from Beta(alpha, alpha), which below 1e-6 is 0 or 1 and for NumPy may be NaN."""
    alpha = max(alpha, 1e-6)
    return rng.beta(alpha, alpha)


def _side(size: int, scale: float, rng: np.random.RandomState) -> slice:
    """Rows or columns of a box of `scale` times an image's, around a random pixel, cut off at the border."""
    center, half = rng.randint(size), int(scale * size) // 2
    return slice(max(center - half, 0), min(center + half, size))


def mix(x: np.ndarray, y: np.ndarray, places: list[int], partners: np.ndarray, partner_y: np.ndarray,
        mixes: list[Mix]) -> None:
    """Mix some images of a batch and their labels with their partners, in place.

    Args:
        x: float32 [B, S, S, C].
        y: Their soft labels, float32 [B, classes].
        places: Which of them.
        partners: Another image for each of these, float32 [n, S, S, C].
        partner_y: Its soft label, float32 [n, classes].
        mixes: How.
    """
    for place, partner, (share, rows, columns) in zip(places, partners, mixes, strict=True):
        if rows is None:
            x[place] = np.float32(share) * x[place] + np.float32(1 - share) * partner
        else:
            x[place, rows, columns] = partner[rows, columns]
    shares = np.array([each.share for each in mixes])[:, None]
    y[places] = to_grid(shares * y[places].astype(np.float64) + (1 - shares) * partner_y.astype(np.float64))


class Erasure(NamedTuple):
    """A rectangle of an image, from its upper left corner on, and what it is filled with: [rows, columns, channels]."""
    top: int
    left: int
    noise: np.ndarray


def draw_erasure(height: int, width: int, channels: int, rng: np.random.RandomState) -> Erasure | None:
    """Draw a rectangle of 2 % to 1/3 of an image, of aspect 0.3 to 1 / 0.3, and standard normal noise to fill it with.

    As in DeiT. After ten rectangles that do not fit there is none.

    Args:
        height: Of the image, pixels.
        width: Likewise.
        channels: Of the image.
        rng: The generator to draw from.
    """
    for _ in range(10):
        area = height * width * rng.uniform(0.02, 1 / 3)
        aspect = math.exp(rng.uniform(math.log(0.3), -math.log(0.3)))
        rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < rows < height and 0 < columns < width:
            top, left = rng.randint(height - rows + 1), rng.randint(width - columns + 1)
            return Erasure(top, left, rng.normal(size=(rows, columns, channels)))
    return None


def erase(x: np.ndarray, erasures: dict[int, Erasure]) -> None:
    """Fill rectangles of some images of a batch, in place.

    Args:
        x: float32 [B, S, S, C].
        erasures: By place in the batch.
    """
    for place, (top, left, noise) in erasures.items():
        x[place, top:top + noise.shape[0], left:left + noise.shape[1]] = noise
