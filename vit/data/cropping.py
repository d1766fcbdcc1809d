"""Random crops: windows of images with a mirrored border, by the batch, and parts of any scale, one by one."""
import math
import random
from typing import NamedTuple

import numpy as np

_ASPECTS = 3 / 4, 4 / 3


def windows(images: np.ndarray, padding: int, tops: np.ndarray, lefts: np.ndarray) -> np.ndarray:
    """Cut a window out of each image with a mirrored border, as large as the image.

    Args:
        images: uint8 [B, S, S, C].
        padding: Width of the border, pixels. The outermost pixels are not repeated.
        tops: Where each window begins, [B], 0 to 2 * padding.
        lefts: Likewise.

    Returns:
        uint8 [B, S, S, C].
    """
    size = images.shape[1]
    mirror = _mirrored(size, padding)
    padded = np.empty((len(images), len(mirror), len(mirror), images.shape[-1]), np.uint8)
    middle, inner = slice(padding, padding + size), padded[:, padding:padding + size]
    inner[:, :, middle] = images
    borders = slice(padding), slice(padding + size, None)
    for border in borders:
        inner[:, :, border] = images[:, :, mirror[border]]
    for border in borders:
        padded[:, border] = inner[:, mirror[border]]
    views = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    return views[np.arange(len(images)), tops, lefts].transpose(0, 2, 3, 1)


def _mirrored(size: int, padding: int) -> np.ndarray:
    """Where each pixel of a row with a mirrored border comes from: [size + 2 * padding]."""
    period = max(2 * (size - 1), 1)
    places = np.arange(-padding, size + padding) % period
    return np.minimum(places, period - places)


class Box(NamedTuple):
    """A part of an image, pixels."""
    top: int
    left: int
    height: int
    width: int


def draw_box(height: int, width: int, scale: tuple[float, float], rng: random.Random) -> Box:
    """Draw a part of an image, as Szegedy et al. 2015 do: of an aspect of 3/4 to 4/3.

    After ten parts that do not fit, it is the middle, or all of the image if its aspect is between the two.

    Args:
        height: Of the image, pixels.
        width: Likewise.
        scale: Smallest and largest share of the image's area.
        rng: The generator to draw from.
    """
    logs = [math.log(aspect) for aspect in _ASPECTS]
    for _ in range(10):
        area = rng.uniform(*scale) * (height * width)
        aspect = math.exp(rng.uniform(*logs))
        columns, rows = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < columns <= width and 0 < rows <= height:
            top, left = rng.randint(0, height - rows), rng.randint(0, width - columns)
            break
    else:
        rows, columns = height, width
        if width / height < _ASPECTS[0]:
            rows = round(width / _ASPECTS[0])
        elif width / height > _ASPECTS[1]:
            columns = round(height * _ASPECTS[1])
        top, left = (height - rows) // 2, (width - columns) // 2
    return Box(_snap(top, height - rows), _snap(left, width - columns), rows, columns)


def _snap(start: int, room: int) -> int:
    """What albumentations makes of a start, 0 to `room`: it keeps the start as a share, and rounds down."""
    return int((room + 1) * (start / (room + 1e-10)))


def resized(image: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Cut a part out of an image and resize it: averages where it shrinks, and interpolates linearly where it grows.

    Args:
        image: uint8 [h, w, 3].
        box: The part.
        size: Height and width of the result, pixels.

    Returns:
        uint8 [size, size, 3].
    """
    import cv2
    part = image[box.top:box.top + box.height, box.left:box.left + box.width]
    return part if part.shape[:2] == (size, size) else cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA)
