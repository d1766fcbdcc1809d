"""Normalization in MindSpore: the numbers of `vit.data.augmentation.table`, looked up where the model runs.

Siblings: `vit/backend/normalize/torch.py` and `vit/backend/normalize/tensorflow.py` define the same names.
"""
import mindspore as ms
import numpy as np
from mindspore import nn, ops


class Normalize(nn.Cell):
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
        self.table = ms.Tensor(table.reshape(-1))
        self.channel = ms.Tensor(np.arange(self.channels))
        self.lines = ms.Tensor(np.arange(size))
        self.zero = ms.Tensor(0, self.table.dtype)

    def construct(self, x, holes=None):
        """From uint8 [B, S, S, C], and the upper left corners of squares, int64 [B, 2]: [B, C, S, S]."""
        x = ops.cast(x.permute(0, 3, 1, 2), ms.int64)
        x = ops.gather(self.table, x * self.channels + self.channel[:, None, None], 0)
        if holes is None:
            return x
        return ops.where(self.inside(holes), self.zero, x)

    def inside(self, holes):
        """Whether a pixel is in its image's square: bool [B, 1, S, S]."""
        past = self.lines - holes[:, :, None]  # B, 2, S: how far a row and a column are from the corner
        within = ops.logical_and(past >= 0, past < self.cutout_size)
        return ops.logical_and(within[:, 0, :, None], within[:, 1, None, :])[:, None]
