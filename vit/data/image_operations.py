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

# Of red, green and blue, of 2**16, as Pillow has them. Sums are whole and below 2**24: exact in float32, in any order.
_LUMA = np.array([19595, 38470, 7471], np.float32)
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
            image = _OF_PLACES[name](_pil(image), strength)
        elif name != "Identity":
            raise ValueError(f"{name} is no operation")
    return np.asarray(image)


def _pil(image: np.ndarray | Image.Image) -> Image.Image:
    """What Pillow's own `fromarray` gives, in half the time."""
    if isinstance(image, Image.Image):
        return image
    return Image.frombuffer("RGB", image.shape[1::-1], np.ascontiguousarray(image), "raw", "RGB", 0, 1)


def _look_up(image: np.ndarray, *tables: np.ndarray) -> np.ndarray:
    """Look the bytes up in one table, uint8 [256], or in one for each channel."""
    import cv2
    return cv2.LUT(image, cv2.merge(tables).reshape(1, 256, len(tables)))


def _brightness(image: np.ndarray, strength: float) -> np.ndarray:
    return _look_up(image, _blend_table(0, strength))


def _contrast(image: np.ndarray, strength: float) -> np.ndarray:
    luma = image.reshape(-1, 3).astype(np.float32) @ _LUMA + np.float32(2**15)
    mean = int((luma.astype(np.int32) >> 16).sum()) / len(luma)
    return _look_up(image, _blend_table(int(mean + 0.5), strength))


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
    return _look_up(image, *(_spread_table(*cv2.minMaxLoc(plane)[:2]) for plane in cv2.split(image)))


@functools.lru_cache(4096)
def _spread_table(low: float, high: float) -> np.ndarray:
    if high <= low:
        return _RAMP.astype(np.uint8)
    scale = 255 / (high - low)
    return np.clip((_RAMP * scale - low * scale).astype(np.int64), 0, 255).astype(np.uint8)


def _equalize(image: np.ndarray, _: float) -> np.ndarray:
    """Make each channel's bytes about equally frequent."""
    import cv2
    return _look_up(image, *(_equal_table(np.bincount(plane.ravel())) for plane in cv2.split(image)))


def _equal_table(counts: np.ndarray) -> np.ndarray:
    """The table of a channel in which byte i comes counts[i] times, and the last of them at least once."""
    below = counts.cumsum()
    step = (below[-1] - counts[-1]) // 255
    if step == 0:
        return _RAMP.astype(np.uint8)
    table = np.full(256, 255, np.uint8)  # of bytes that there are none of
    table[:len(counts)] = np.minimum((below - counts + step // 2) // step, 255)
    return table


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
