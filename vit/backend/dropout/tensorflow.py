"""Dropout in TensorFlow: what `vit.model.dropout` says of a sample's key, evaluated where the model runs.

Siblings: `vit/backend/dropout/torch.py` and `vit/backend/dropout/mindspore.py` define the same names.
"""
import fe_compat

tf = fe_compat.legacy_tensorflow()
from tensorflow.keras import layers as nn

from vit.model.dropout import FIRST, SECOND, mixed_index, patch_bits, sites


class Dropout(nn.Layer):
    """One dropout site: keep the values that a sample's key chooses, scaled up; keep all of them without keys."""

    def __init__(self, config, name, dtypes):
        super().__init__(dtype=dtypes.weights)
        self.site = sites(config).get(name)
        if self.site is not None:
            self.index = tf.constant(mixed_index(self.site))  # graphs take it as an input: it is there once

    def call(self, x, key):
        if key is None or self.site is None:
            return x
        return x * (tf.cast(self.keep(key), x.dtype) * (1 / self.site.kept))

    def keep(self, key):
        """From the samples' keys (int32 [B, 2]): bool [B, *site.shape], whether an element is kept."""
        values = tf.bitcast(words(key, self.index), tf.int8 if self.site.bits == 8 else tf.int16)  # B, words, lanes
        values = tf.reshape(values, (-1, self.site.words * self.site.lanes))[:, :self.site.size]
        return tf.reshape(values < self.site.threshold, (-1, *self.site.shape))


class PatchDropout(nn.Layer):
    """Leave those of an image's patch tokens out that its key chooses, as many of each image; none without keys."""

    def __init__(self, config, dtypes):
        super().__init__(dtype=dtypes.weights)
        self.site = sites(config).get("patches")
        if self.site is not None:
            self.first, self.count, self.low = int(config.class_token), config.trained_patches, patch_bits(config)
            self.index = tf.constant(mixed_index(self.site))
            self.numbers = tf.range(config.patches)

    def call(self, x, key):
        if key is None or self.site is None:
            return x
        kept = tf.gather(x[:, self.first:], self.kept(key), axis=1, batch_dims=1)
        return tf.concat([x[:, :self.first], kept], axis=1)

    def kept(self, key):
        """From the samples' keys (int32 [B, 2]): int32 [B, trained patches], as `vit.model.dropout.kept_patches`."""
        scores = tf.bitcast(words(key, self.index), tf.int32)
        scores = tf.bitwise.bitwise_or(tf.bitwise.bitwise_and(scores, ~self.low), self.numbers)
        return tf.bitwise.bitwise_and(tf.sort(scores, axis=1)[:, :self.count], self.low)

    def places(self, key, dtype):
        """1 where a patch (axis 1) is the kept one of a number (axis 2), else 0: [B, patches, trained patches]."""
        return tf.cast(tf.expand_dims(self.kept(key), 1) == tf.expand_dims(self.numbers, 1), dtype)


def draw_keys(x):
    """Draw keys for images whose keys nobody gave, from TensorFlow's own generator: int32 [B, 2]."""
    return tf.random.uniform((tf.shape(x)[0], 2), tf.int32.min, tf.int32.max, tf.int32)


def words(key, index):
    """Hash mixed indices (uint32 [n]) with each sample's key (int32 [B, 2]): uint32 [B, n]."""
    a, b = tf.split(tf.bitcast(key, tf.uint32), 2, axis=1)  # on a GPU, int32's operations run on the host
    h = tf.bitwise.bitwise_xor(index, a) * FIRST
    h = (_xor_shifted(h, 15) + b) * SECOND
    return _xor_shifted(h, 16)


def _xor_shifted(h, bits):
    return tf.bitwise.bitwise_xor(h, tf.bitwise.right_shift(h, tf.constant(bits, tf.uint32)))
