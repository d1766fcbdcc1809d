"""What is done to training images: first all that is random is drawn, image by image, then arrays do the work.

The draws are those of FastEstimator's ops (which are albumentations'), in their order, from the same two generators;
so images are to the byte what these ops would make of them (`tests/training/fe_pipeline.py`).
"""
import functools
import random
from dataclasses import dataclass

import numpy as np

from vit.data import cropping, image_operations, mixing, policies

_IN_CACHE = 2**18  # as many float32 values at a time: a megabyte


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images, in this order.

    Args:
        size: Height and width of the images that leave, pixels.
        crop_scale: Smallest and largest share of an image's area in a random crop that is resized, or None.
        crop_padding: Reflected border around an image before a random crop of its own size, pixels; 0 for no such crop.
        hflip_prob: Probability that an image is flipped left to right.
        policy: "none", "randaugment" or a key of `policies.AUTOAUGMENT`.
        randaugment: Number of operations, their strength (0 to 10) and its standard deviation.
        cutout_size: Size of the square that is set to the mean, pixels; 0 for none.
        random_erasing_prob: Probability that a rectangle is filled with noise.
    """
    size: int
    crop_scale: tuple[float, float] | None = None
    crop_padding: int = 0
    hflip_prob: float = 0.0
    policy: str = "none"
    randaugment: tuple[int, float, float] = (2, 9.0, 0.0)
    cutout_size: int = 0
    random_erasing_prob: float = 0.0


class Draws:
    """What was drawn for some images.

    Args:
        augmentation: What to draw for.
        python: One generator to draw from.
        numpy: The other.
    """

    def __init__(self, augmentation: Augmentation, python: random.Random, numpy: np.random.RandomState) -> None:
        self.augmentation, self.python, self.numpy = augmentation, python, numpy
        self.count = 0
        self.tops, self.lefts, self.flipped, self.holes = [], [], [], []
        self.operations, self.erasures = [], {}

    def box(self, height: int, width: int) -> cropping.Box:
        """Draw the part of the next image that `crop_scale` leaves: before `add`.

        Args:
            height: Of the image, pixels.
            width: Likewise.
        """
        self.python.random()
        return cropping.draw_box(height, width, self.augmentation.crop_scale, self.python)

    def add(self) -> None:
        """Draw all else for the next image. Each of albumentations' ops takes a number that decides nothing."""
        todo, uniform = self.augmentation, self.python.random
        if todo.policy == "none":
            uniform()
        if todo.crop_padding:
            uniform(), uniform()
            self.tops.append(int((2 * todo.crop_padding + 1) * uniform()))
            self.lefts.append(int((2 * todo.crop_padding + 1) * uniform()))
        if todo.hflip_prob and self.numpy.random_sample() < todo.hflip_prob:
            uniform()
            self.flipped.append(self.count)
        if todo.policy != "none":
            self.operations.append(self._operations())
            uniform()
        if todo.cutout_size:
            uniform()
            room, below = todo.size - todo.cutout_size + 1, self._below
            below(1), below(1), below(1)  # how many holes, and of what size
            self.holes.append((below(room), below(room)))
        if todo.random_erasing_prob and self.numpy.random_sample() < todo.random_erasing_prob:
            erasure = mixing.draw_erasure(todo.size, todo.size, 3, self.numpy)
            if erasure:
                self.erasures[self.count] = erasure
        self.count += 1

    def _operations(self) -> list[tuple[str, float]]:
        if self.augmentation.policy == "randaugment":
            return policies.randaugment(*self.augmentation.randaugment, self.numpy)
        return policies.autoaugment(self.augmentation.policy, self.numpy)

    def _below(self, count: int) -> int:
        """An integer below `count`, as Python's `randrange` draws it."""
        bits = count.bit_length()
        while (drawn := self.python.getrandbits(bits)) >= count:
            pass
        return drawn

    def move(self, images: np.ndarray) -> np.ndarray:
        """Do what was drawn up to normalization: crop, flip, change colors.

        Args:
            images: uint8 [n, S, S, 3], as many as were added; they may be changed.

        Returns:
            uint8 [n, S, S, 3].
        """
        if self.augmentation.crop_padding:
            tops, lefts = np.array(self.tops), np.array(self.lefts)
            images = cropping.windows(images, self.augmentation.crop_padding, tops, lefts)
        if self.flipped:
            cropping.flip(images, self.flipped)
        for place, operations in enumerate(self.operations):
            if operations:
                images[place] = image_operations.apply(images[place], operations)
        return images

    def apply(self, images: np.ndarray, mean: tuple, std: tuple, channels_first: bool) -> np.ndarray:
        """Do all that was drawn.

        Args:
            images: uint8 [n, S, S, 3], as many as were added; they may be changed.
            mean: Of each channel, of pixels / 255.
            std: Likewise.
            channels_first: How the images lie in memory.

        Returns:
            float32 [n, S, S, 3], normalized; a view of [n, 3, S, S] where channels are first in memory.
        """
        x, side = normalized(self.move(images), mean, std, channels_first), self.augmentation.cutout_size
        if side:
            squares = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(1, 2), writeable=True)
            tops, lefts = np.array(self.holes).T
            squares[np.arange(self.count), tops, lefts] = 0
        mixing.erase(x, self.erasures)
        return x


def normalized(images: np.ndarray, mean: tuple, std: tuple, channels_first: bool) -> np.ndarray:
    """Take the mean off and divide by the standard deviation, in float32, as albumentations does.

    Args:
        images: uint8 [n, S, S, 3].
        mean: Of each channel, of pixels / 255.
        std: Likewise.
        channels_first: How the result lies in memory.

    Returns:
        float32 [n, S, S, 3]; a view of [n, 3, S, S] where channels are first in memory.
    """
    n, height, width, channels = images.shape
    mean, inverse = _constants(mean, std)
    x = np.empty((n, channels, height, width) if channels_first else (n, height, width, channels), np.float32)
    some = max(1, _IN_CACHE // images[0].size)
    for start in range(0, n, some):
        _normalize(images[start:start + some], mean, inverse, x[start:start + some], channels_first)
    return x.transpose(0, 2, 3, 1) if channels_first else x


def _normalize(images: np.ndarray, mean: np.ndarray, inverse: np.ndarray, x: np.ndarray, channels_first: bool) -> None:
    """Write into x, which lies as asked for."""
    n, height, width, channels = images.shape
    if channels_first:
        import cv2
        for channel, plane in enumerate(cv2.split(images.reshape(n * height, width, channels))):
            x[:, channel] = plane.reshape(n, height, width)
        mean, inverse = mean[:, None, None], inverse[:, None, None]
    else:  # rows of pixels: three numbers at a time would be slow
        x = x.reshape(n, height, width * channels)
        x[:] = images.reshape(x.shape)
        mean, inverse = np.tile(mean, width), np.tile(inverse, width)
    x -= mean
    x *= inverse


def table(mean: tuple, std: tuple) -> np.ndarray:
    """Normalize each value that a pixel can have, for who looks them up.

    Args:
        mean: Of each channel, of pixels / 255.
        std: Likewise.

    Returns:
        float32 [256, 3].
    """
    values = np.arange(256, dtype=np.uint8).reshape(1, 256, 1, 1)
    return normalized(np.repeat(values, 3, axis=3), mean, std, False).reshape(256, 3)


@functools.cache
def _constants(mean: tuple, std: tuple) -> tuple[np.ndarray, np.ndarray]:
    """What to take off and what to multiply by, float32 [3]."""
    return np.array(mean, np.float32) * np.float32(255), np.reciprocal(np.array(std, np.float32) * np.float32(255))
