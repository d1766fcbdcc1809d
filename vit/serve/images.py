"""From the bytes that a client sends to what the model sees; in memory alone."""
import base64
import io
import warnings

import numpy as np
from PIL import Image
from starlette.exceptions import HTTPException

from vit.data import image_folder
from vit.use.classifier import Model

_READ = f"these are read: {', '.join(image_folder.FORMATS)}"


def read(body: bytes, model: Model, max_pixels: int) -> np.ndarray:
    """Read an image as `vit predict` reads it.

    Args:
        body: The bytes of a file.
        model: The model that will see it.
        max_pixels: Width times height, at most.

    Returns:
        uint8 [S, S, 3].

    Raises:
        HTTPException: 413 where it has more pixels, 415 where it is no image, 422 where it is damaged.
    """
    _check_size(body, max_pixels)
    image, fault = image_folder.decode(io.BytesIO(body))
    if fault is not None:
        raise HTTPException(*((415, f"not an image; {_READ}") if fault == image_folder.NO_IMAGE else
                              (422, f"the image cannot be read: {fault}")))
    return model.pixels(image)


def _check_size(body: bytes, max_pixels: int) -> None:
    """Look at the header alone: an image of a few bytes may claim to be huge."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(body), formats=image_folder.FORMATS) as image:
                width, height = image.size
        except Image.DecompressionBombError:
            raise HTTPException(413, f"the image has more than the {max_pixels:,} pixels that are taken") from None
        except image_folder.FAULTS:
            return  # reading it says why
    if width * height > max_pixels:
        raise HTTPException(413, f"the image has {width:,} x {height:,} pixels, and {max_pixels:,} are taken")


def data_address(pixels: np.ndarray) -> str:
    """Give pixels, uint8 [S, S, 3], as an address that holds a PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
