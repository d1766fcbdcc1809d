"""Make images of any size square."""
import numpy as np
from PIL import Image


def center_crop(image: np.ndarray, size: int, crop_pct: float) -> np.ndarray:
    """Cut a square out of the middle of an image, `crop_pct` times its shorter edge, and resize it.

    With crop_pct 0.875 and size 224 this is ImageNet's evaluation: the shorter edge to 256, then the middle 224 x 224.
    The filter is Pillow's bicubic one, which averages where it shrinks.

    Args:
        image: uint8 [h, w, 3].
        size: Height and width of the result, pixels.
        crop_pct: Share of the shorter edge, above 0 and at most 1.

    Returns:
        uint8 [size, size, 3].
    """
    height, width = image.shape[:2]
    half = crop_pct * min(height, width) / 2
    box = (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half)
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC, box))
