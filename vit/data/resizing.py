"""Make images of any size square, with Pillow's filters, which average where they shrink."""
import numpy as np
from PIL import Image


def center_crop(image: np.ndarray, size: int, crop_pct: float, interpolation: str = "bicubic") -> np.ndarray:
    """Cut a square out of the middle of an image, `crop_pct` times its shorter edge, and resize it.

    With crop_pct 0.875 and size 224 this is ImageNet's evaluation: the shorter edge to 256, then the middle 224 x 224.

    Args:
        image: uint8 [h, w, 3].
        size: Height and width of the result, pixels.
        crop_pct: Share of the shorter edge, above 0 and at most 1.
        interpolation: The filter: "bicubic" or "bilinear".

    Returns:
        uint8 [size, size, 3].
    """
    height, width = image.shape[:2]
    half = crop_pct * min(height, width) / 2
    box = (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half)
    return _resize(image, size, interpolation, box)


def stretch(image: np.ndarray, size: int, interpolation: str) -> np.ndarray:
    """Resize a whole image to a square: one that is none is stretched.

    Args:
        image: uint8 [h, w, 3].
        size: Height and width of the result, pixels.
        interpolation: The filter: "bicubic" or "bilinear".

    Returns:
        uint8 [size, size, 3].
    """
    return _resize(image, size, interpolation, None)


def _resize(image: np.ndarray, size: int, interpolation: str, box: tuple[float, ...] | None) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling[interpolation.upper()], box))
