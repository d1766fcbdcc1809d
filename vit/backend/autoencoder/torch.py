"""What a masked autoencoder's decoder is held to, in PyTorch.

Siblings: `vit/backend/autoencoder/tensorflow.py` and `vit/backend/autoencoder/mindspore.py` define the same names.
"""
import torch

from vit.model.config import PIXEL_NORM_EPS


def pixel_errors(x, pixels):
    """Mean squared errors [B, patches] of what is predicted of patches' pixels, each patch's normalized."""
    centred = pixels - pixels.mean(dim=2, keepdim=True)
    targets = centred / torch.sqrt(torch.square(centred).mean(dim=2, keepdim=True) + PIXEL_NORM_EPS)
    return torch.square(x - targets).mean(dim=2)
