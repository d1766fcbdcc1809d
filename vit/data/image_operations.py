"""The operations of RandAugment and AutoAugment: Pillow's, to the byte, but for small images several times faster.

Pillow makes the table of an operation that looks bytes up anew for each image, in Python. Here numpy makes it; only
what depends on a pixel's place or on its other channels is left to Pillow.
"""
import functools

import numpy as np
from PIL import Image, ImageFilter

# The colour of what shear, translation and rotation bring in from outside, as in AutoAugment's own code.
FILL = (128, 128, 128)

# The ranges of the operations are those of torchvision and of the code that small-data ViTs are trained with. The
# authors' own code moves CIFAR by 10 pixels at most, and enhances from 0.1 to 1.9 in one direction. Signed operations
# go both ways.
_SHEAR, _SHIFT, _DEGREES, _ENHANCE, _BITS = 0.3, 150 / 331, 30.0, 0.9, 4
SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")

_RAMP = np.arange(256)


def apply(image: np.ndarray, operations: list[tuple[str, float]]) -> np.ndarray:
    """Apply operations to an image, one after the other.

    Args:
        image: uint8 [h, w, 3].
        operations: The name of each and its strength, the share of its range, 0 to 1; a signed operation goes the other
            way (left, darker ...) down to -1.

    Returns:
        uint8 [h, w, 3].

    Raises:
        ValueError: There is no such operation.
    """
    for name, strength in operations:
        if name in _OF_BYTES:  # an array
            image = _OF_BYTES[name](np.asarray(image), strength)
        elif name in _OF_PLACES:  # a Pillow image
            image = _OF_PLACES[name](image if isinstance(image, Image.Image) else Image.fromarray(image), strength)
        elif name != "Identity":
            raise ValueError(f"{name} is no operation")
    return np.asarray(image)


def _look_up(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Look the bytes up in one table, uint8 [256], or in one for each channel, [256, 3]."""
    import cv2
    return cv2.LUT(image, table[None])


def _brightness(image: np.ndarray, strength: float) -> np.ndarray:
    return _look_up(image, _blend_table(0, strength))


def _contrast(image: np.ndarray, strength: float) -> np.ndarray:
    luma = np.asarray(Image.fromarray(image).convert("L"))
    return _look_up(image, _blend_table(int(int(luma.sum()) / luma.size + 0.5), strength))


@functools.lru_cache(4096)
def _blend_table(value: int, strength: float) -> np.ndarray:
    """What Pillow's enhancement makes of each byte, from `value` through the byte itself and beyond."""
    ramp = Image.fromarray(_RAMP.astype(np.uint8)[None])
    return np.asarray(Image.blend(Image.new("L", ramp.size, value), ramp, 1 + _ENHANCE * strength))[0]


def _posterize(image: np.ndarray, strength: float) -> np.ndarray:
    return image & np.uint8(256 - 2**round(_BITS * strength))


def _solarize(image: np.ndarray, strength: float) -> np.ndarray:
    return _look_up(image, np.where(255 - 255 * strength > _RAMP, _RAMP, 255 - _RAMP).astype(np.uint8))


def _invert(image: np.ndarray, _: float) -> np.ndarray:
    return ~image


def _autocontrast(image: np.ndarray, _: float) -> np.ndarray:
    """Spread each channel over all bytes."""
    import cv2
    low, high = (cv2.reduce(image, 0, way)[0].astype(float) for way in (cv2.REDUCE_MIN, cv2.REDUCE_MAX))
    low, high = low.min(axis=0), high.max(axis=0)
    scale = 255 / np.maximum(high - low, 1)
    table = np.clip((_RAMP[:, None] * scale - low * scale).astype(np.int64), 0, 255)
    return _look_up(image, np.where(high > low, table, _RAMP[:, None]).astype(np.uint8))


def _equalize(image: np.ndarray, _: float) -> np.ndarray:
    """Make each channel's bytes about equally frequent."""
    counts = np.stack([np.bincount(image[..., channel].ravel(), minlength=256) for channel in range(3)])
    below = counts.cumsum(axis=1)
    highest = counts[np.arange(3), 255 - (counts[:, ::-1] > 0).argmax(axis=1)]
    step = (below[:, -1] - highest)[:, None] // 255
    table = np.minimum((step // 2 + below - counts) // np.maximum(step, 1), 255)
    return _look_up(image, np.ascontiguousarray(np.where(step > 0, table, _RAMP).astype(np.uint8).T))


def _color(image: Image.Image, strength: float) -> Image.Image:
    return Image.blend(image.convert("L").convert("RGB"), image, 1 + _ENHANCE * strength)


def _sharpness(image: Image.Image, strength: float) -> Image.Image:
    return Image.blend(image.filter(ImageFilter.SMOOTH), image, 1 + _ENHANCE * strength)


def _shear_x(image: Image.Image, strength: float) -> Image.Image:
    return _move(image, (1, _SHEAR * strength, 0, 0, 1, 0))


def _shear_y(image: Image.Image, strength: float) -> Image.Image:
    return _move(image, (1, 0, 0, _SHEAR * strength, 1, 0))


def _translate_x(image: Image.Image, strength: float) -> Image.Image:
    return _move(image, (1, 0, _SHIFT * strength * image.width, 0, 1, 0))


def _translate_y(image: Image.Image, strength: float) -> Image.Image:
    return _move(image, (1, 0, 0, 0, 1, _SHIFT * strength * image.height))


def _move(image: Image.Image, matrix: tuple) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=FILL)


def _rotate(image: Image.Image, strength: float) -> Image.Image:
    return image.rotate(_DEGREES * strength, Image.Resampling.BILINEAR, fillcolor=FILL)


_OF_BYTES = {"AutoContrast": _autocontrast, "Brightness": _brightness, "Contrast": _contrast, "Equalize": _equalize,
             "Invert": _invert, "Posterize": _posterize, "Solarize": _solarize}
_OF_PLACES = {"Color": _color, "Rotate": _rotate, "Sharpness": _sharpness, "ShearX": _shear_x, "ShearY": _shear_y,
              "TranslateX": _translate_x, "TranslateY": _translate_y}
