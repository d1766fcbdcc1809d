"""Images of any size made square."""
import numpy as np
from PIL import Image


def middle(image: np.ndarray, side: int, share: float) -> np.ndarray:
    """Cut the middle out of an image, its side `share` of the image's shorter one, and resize it.

    With share 0.875 and side 224 it is ImageNet's evaluation: shorter side to 256, middle 224 x 224. The filter is
    Pillow's bicubic one, which averages where it shrinks.

    Args:
        image: uint8 [h, w, 3].
        side: Of the result, pixels.
        share: Above 0, at most 1.

    Returns:
        uint8 [side, side, 3].
    """
    height, width = image.shape[:2]
    half = share * min(height, width) / 2
    box = (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half)
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC, box))
