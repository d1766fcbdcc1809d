"""What a masked autoencoder's decoder is held to, in MindSpore.

Siblings: `vit/backend/autoencoder/torch.py` and `vit/backend/autoencoder/tensorflow.py` define the same names.
"""
import mindspore as ms
from mindspore import ops

from vit.model.config import PIXEL_NORM_EPS

_PIXEL_NORM_EPS = ms.Tensor(PIXEL_NORM_EPS, ms.float64)  # a bare number would be a float32


def pixel_errors(x, pixels):
    """Mean squared errors [B, patches] of what is predicted of patches' pixels, each patch's normalized."""
    centred = pixels - pixels.mean(axis=2, keep_dims=True)
    variance = ops.square(centred).mean(axis=2, keep_dims=True)
    targets = centred / ops.sqrt(variance + ops.cast(_PIXEL_NORM_EPS, variance.dtype))
    return ops.square(x - targets).mean(axis=2)
