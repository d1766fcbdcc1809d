"""Normalization in PyTorch: the numbers of `vit.data.augmentation.table`, looked up where the model runs.

Siblings: `vit/backend/normalize/tensorflow.py` and `vit/backend/normalize/mindspore.py` define the same names.
"""
import numpy as np
import torch
from torch import nn


class Normalize(nn.Module):
    """Images that left the pipeline as pixels, as the host normalizes them and cuts squares out.

    Args:
        table: What becomes of each value of a pixel, of the dtype that images shall have: [256, C].
        size: Height and width of the images, pixels.
        cutout_size: Side of the squares, pixels.
    """

    def __init__(self, table, size, cutout_size):
        super().__init__()
        self.channels, self.cutout_size = table.shape[1], cutout_size
        # Looked up, and not computed: so the bits are the host's, whatever a compiler makes of it.
        self.register_buffer("table", torch.tensor(table.reshape(-1)))
        self.register_buffer("channel", torch.tensor(np.arange(self.channels)))
        self.register_buffer("lines", torch.tensor(np.arange(size)))

    def forward(self, x, holes=None):
        """From uint8 [B, S, S, C], and the upper left corners of squares, int64 [B, 2]: [B, C, S, S]."""
        self.to(x.device)  # once: it is no part of a model, which FastEstimator would move
        x = x.permute(0, 3, 1, 2).to(torch.int64, memory_format=torch.contiguous_format)
        x = self.table[x * self.channels + self.channel[:, None, None]]
        if holes is None:
            return x
        return torch.where(self.inside(holes), 0, x)

    def inside(self, holes):
        """Whether a pixel is in its image's square: bool [B, 1, S, S]."""
        past = self.lines - holes[:, :, None]  # B, 2, S: how far a row and a column are from the corner
        within = (past >= 0) & (past < self.cutout_size)
        return (within[:, 0, :, None] & within[:, 1, None, :])[:, None]
