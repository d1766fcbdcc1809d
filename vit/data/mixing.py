"""Soft labels, mixup, CutMix and random erasing: augmentation of normalized images and of their labels.

Labels lie on a grid of 2**-24, where they add up to exactly 1 in float32, in any order. Both matter for parity:
TensorFlow's gradient of the cross entropy takes for granted that a label adds up to 1, and FastEstimator's cross
entropy for torch rounds labels to float32, even where the model computes in float64.
"""
import math

import numpy as np

_GRID = 2**24


def to_grid(shares: np.ndarray) -> np.ndarray:
    """Round shares that add up to 1 to multiples of 2**-24 that do so exactly; the largest takes the remainder.

    Args:
        shares: float64 [classes].

    Returns:
        float32 [classes].
    """
    whole = np.round(shares * _GRID)
    whole[whole.argmax()] += _GRID - whole.sum()
    return (whole / _GRID).astype(np.float32)


def soft_label(label: int, classes: int, smoothing: float) -> np.ndarray:
    """Return the label `1 - smoothing` for its class plus `smoothing` spread over all classes: float32 [classes]."""
    shares = np.full(classes, smoothing / classes)
    shares[label] += 1 - smoothing
    return to_grid(shares)


def mix(x: np.ndarray, y: np.ndarray, partner: np.ndarray, partner_y: np.ndarray, mixup: float, cutmix: float,
        rng: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Mix an image with its partner by mixup or CutMix; if both are on, toss a coin.

    Args:
        x: float32 [h, w, c].
        y: Its soft label, float32 [classes].
        partner: Another image.
        partner_y: Its soft label.
        mixup: Alpha of mixup, or 0.
        cutmix: Alpha of CutMix, or 0.
        rng: The generator to draw from: a RandomState, or the module `numpy.random` for the global one.

    Returns:
        The mixed image and its label.
    """
    if mixup and (not cutmix or rng.uniform() < 0.5):
        share = _share(mixup, rng)
        mixed = np.float32(share) * x + np.float32(1 - share) * partner
    else:
        rows, columns = _box(x.shape[:2], math.sqrt(1 - _share(cutmix, rng)), rng)
        mixed = x.copy()
        mixed[rows, columns] = partner[rows, columns]
        share = 1 - mixed[rows, columns, 0].size / mixed[..., 0].size
    return mixed, to_grid(share * y.astype(np.float64) + (1 - share) * partner_y.astype(np.float64))


def _share(alpha: float, rng: np.random.RandomState) -> float:
    """Draw from Beta(alpha, alpha), which below 1e-6 is 0 or 1 and for NumPy may be NaN."""
    alpha = max(alpha, 1e-6)
    return rng.beta(alpha, alpha)


def _box(shape: tuple[int, int], scale: float, rng: np.random.RandomState) -> tuple[slice, slice]:
    """Rows and columns of a box of `scale` times the image's height and width, around a random pixel, cut off at the
    border."""
    slices = []
    for length in shape:
        center, half = rng.randint(length), int(scale * length) // 2
        slices.append(slice(max(center - half, 0), min(center + half, length)))
    return slices[0], slices[1]


def erase(x: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Fill a rectangle of 2 % to 1/3 of a normalized image, of aspect 0.3 to 1 / 0.3, with standard normal noise.

    As in DeiT. After ten rectangles that do not fit, the image stays as it is.

    Args:
        x: float32 [h, w, c].
        rng: As in `mix`.

    Returns:
        float32 [h, w, c].
    """
    height, width, channels = x.shape
    for _ in range(10):
        area = height * width * rng.uniform(0.02, 1 / 3)
        aspect = math.exp(rng.uniform(math.log(0.3), -math.log(0.3)))
        rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < rows < height and 0 < columns < width:
            top, left = rng.randint(height - rows + 1), rng.randint(width - columns + 1)
            x = x.copy()
            x[top:top + rows, left:left + columns] = rng.normal(size=(rows, columns, channels))
            break
    return x
