"""Dropout in MindSpore: what `vit.model.dropout` says of a sample's key, evaluated where the model runs.

Siblings: `vit/backend/dropout/torch.py` and `vit/backend/dropout/tensorflow.py` define the same names.
"""
import hashlib

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from mindspore.ops.operations._pyfunc_registry import add_pyfunc

from vit.model import dropout
from vit.model.dropout import FIRST, SECOND, mixed_index, patch_bits, sites


class Dropout(nn.Cell):
    """One dropout site: keep the values that a sample's key chooses, scaled up; keep all of them without keys."""

    def __init__(self, config, name, dtypes):
        super().__init__()
        self.site = sites(config).get(name)
        if self.site is not None:
            # On a CPU its own integer operations take sixteen times as long as numpy. But MindSpore fails to compile
            # float16's training step with numpy in it ("MultitypeFuncGraph cannot find fn").
            on_cpu = ms.get_context("device_target") == "CPU" and dtypes.products == dtypes.weights
            self.keep = on_host(self.site) if on_cpu else Flags(self.site)
            self.scale = ms.Tensor(1 / self.site.kept, dtypes.weights)  # a bare number would be a float32

    def construct(self, x, key):
        if key is None or self.site is None:
            return x
        return x * (ops.cast(self.keep(key), x.dtype) * self.scale)


class PatchDropout(nn.Cell):
    """Leave those of an image's patch tokens out that its key chooses, as many of each image; none without keys."""

    def __init__(self, config, dtypes):
        super().__init__()
        self.site = sites(config).get("patches")
        if self.site is not None:
            self.first, self.count = int(config.class_token), config.trained_patches
            self.words = Flags(self.site).words
            self.high, self.low = (ms.Tensor(np.int32(bits)) for bits in (~patch_bits(config), patch_bits(config)))
            self.numbers = ms.Tensor(np.arange(config.patches, dtype=np.int32))

    def construct(self, x, key):
        if key is None or self.site is None:
            return x
        kept = ops.broadcast_to(self.kept(key).expand_dims(2), (-1, -1, x.shape[2]))
        return ops.cat([x[:, :self.first], ops.gather_elements(x[:, self.first:], 1, kept)], axis=1)

    def kept(self, key):
        """From the samples' keys (int32 [B, 2]): int32 [B, trained patches], as `vit.model.dropout.kept_patches`."""
        scores = ops.cast(self.words(ops.cast(key, ms.uint32)), ms.int32)
        scores = ops.bitwise_or(ops.bitwise_and(scores, self.high), self.numbers)
        return ops.bitwise_and(ops.sort(scores, axis=1)[0][:, :self.count], self.low)

    def places(self, key, dtype):
        """1 where a patch (axis 1) is the kept one of a number (axis 2), else 0: [B, patches, trained patches]."""
        return ops.cast(ops.equal(self.kept(key).expand_dims(1), self.numbers.expand_dims(1)), dtype)


def draw_keys(x):
    """Draw keys for images whose keys nobody gave, from MindSpore's own generator: int32 [B, 2]."""
    # The newer mint.randint has no kernel for a CPU.
    return ops.randint(-2**31, 2**31 - 1, (x.shape[0], 2), dtype=ms.int32)


def on_host(site):
    """Give a graph's node that evaluates a site in numpy: keys (int32 [B, 2]) to uint8 [B, *site.shape], 1 or 0."""
    def flags(key):
        return dropout.keep(key, site).view(np.uint8)

    node = ops.Custom(flags, out_shape=lambda key: (key[0], *site.shape), out_dtype=lambda key: ms.uint8,
                      func_type="pyfunc")
    # MindSpore finds the function by a number, the address of it; a graph that another process has compiled and kept
    # must find it as well.
    number = int.from_bytes(hashlib.sha256(repr(site).encode()).digest()[:7], "big")
    add_pyfunc(number, node.func)
    node.add_prim_attr("fn_id", number)
    return node


class Flags(nn.Cell):
    """The same from MindSpore's own operations: to bool [B, *site.shape]."""

    def __init__(self, site):
        super().__init__()
        self.shape, self.size = site.shape, site.size
        self.index = ms.Tensor(mixed_index(site))
        self.first, self.second, self.bits15, self.bits16 = (
            ms.Tensor(np.uint32(number)) for number in (FIRST, SECOND, 15, 16))
        # Brings the first, second, ... value of a word to its top; what stays below does not change the order.
        self.left = ms.Tensor(np.arange(32 - site.bits, -1, -site.bits, dtype=np.uint32))
        self.threshold = ms.Tensor(np.int32(site.threshold << 32 - site.bits))

    def construct(self, key):
        h = self.words(ops.cast(key, ms.uint32))
        values = ops.cast(ops.bitwise_left_shift(h.expand_dims(2), self.left), ms.int32)  # B, words, lanes
        return (values < self.threshold).reshape(key.shape[0], -1)[:, :self.size].reshape(-1, *self.shape)

    def words(self, key):
        """Hash the site's indices with each sample's key (uint32 [B, 2]): uint32 [B, words]."""
        h = ops.bitwise_xor(self.index, key[:, :1]) * self.first
        h = (self.xor_shifted(h, self.bits15) + key[:, 1:]) * self.second
        return self.xor_shifted(h, self.bits16)

    def xor_shifted(self, h, bits):
        return ops.bitwise_xor(h, ops.bitwise_right_shift(h, bits))
