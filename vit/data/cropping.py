"""Random crops, windows of images with a reflected border and parts of any scale, and flips."""
import math
import random
from typing import NamedTuple

import numpy as np

_ASPECTS = 3 / 4, 4 / 3


def windows(images: np.ndarray, padding: int, tops: np.ndarray, lefts: np.ndarray) -> np.ndarray:
    """Cut a window out of each image with a reflected border, as large as the image.

    Args:
        images: uint8 [B, S, S, 3].
        padding: Width of the border, pixels. The outermost pixels are not repeated.
        tops: Where each window begins, [B], 0 to 2 * padding.
        lefts: Likewise.

    Returns:
        uint8 [B, S, S, 3].
    """
    import cv2
    count, size = images.shape[:2]
    # All images above one another are one image to OpenCV, of which a row with a border is made for each row ...
    tall = cv2.copyMakeBorder(images.reshape(count * size, size, 3), 0, 0, padding, padding, cv2.BORDER_REFLECT_101)
    # ... and of which parts, [rows, starts, S * 3], are picked row by row, with the rows of the border among them.
    parts = np.lib.stride_tricks.as_strided(tall, (len(tall), 2 * padding + 1, size * 3), (tall.strides[0], 3, 1))
    rows = _reflected(size, padding)[tops[:, None] + np.arange(size)] + size * np.arange(count)[:, None]
    return parts[rows, lefts[:, None]].reshape(images.shape)


def flip(images: np.ndarray, places: list[int]) -> None:
    """Flip some images left to right, in place.

    Args:
        images: uint8 [B, S, S, 3].
        places: Which of them, at least one.
    """
    import cv2
    flipped = images[places]
    size = images.shape[1]
    images[places] = cv2.flip(flipped.reshape(-1, size, 3), 1).reshape(flipped.shape)


def _reflected(size: int, padding: int) -> np.ndarray:
    """Where each pixel of a row with a reflected border comes from: [size + 2 * padding]."""
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
    return Box(top, left, rows, columns)


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
