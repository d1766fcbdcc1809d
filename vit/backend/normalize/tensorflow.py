"""Normalization in TensorFlow: the numbers of `vit.data.augmentation.table`, looked up where the model runs.

Siblings: `vit/backend/normalize/torch.py` and `vit/backend/normalize/mindspore.py` define the same names.
"""
import fe_compat
import numpy as np

tf = fe_compat.legacy_tensorflow()
from tensorflow.keras import layers as nn


class Normalize(nn.Layer):
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
        self.table = tf.constant(table.reshape(-1))
        self.channel = tf.constant(np.arange(self.channels))
        self.lines = tf.constant(np.arange(size))

    def call(self, x, holes=None):
        """From uint8 [B, S, S, C], and the upper left corners of squares, int64 [B, 2]: [B, S, S, C]."""
        x = tf.cast(x, tf.int64)  # on a GPU, int32's operations run on the host
        x = tf.gather(self.table, x * self.channels + self.channel)
        if holes is None:
            return x
        return tf.where(self.inside(holes), tf.zeros((), x.dtype), x)

    def inside(self, holes):
        """Whether a pixel is in its image's square: bool [B, S, S, 1]."""
        past = self.lines - holes[:, :, None]  # B, 2, S: how far a row and a column are from the corner
        within = (past >= 0) & (past < self.cutout_size)
        return (within[:, 0, :, None] & within[:, 1, None, :])[..., None]
