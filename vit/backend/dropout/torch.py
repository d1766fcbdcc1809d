"""Dropout in PyTorch: what `vit.model.dropout` says of a sample's key, evaluated where the model runs.

Siblings: `vit/backend/dropout/tensorflow.py` and `vit/backend/dropout/mindspore.py` define the same names.
"""
import numpy as np
import torch
from torch import nn

from vit.model.dropout import FIRST, SECOND, mixed_index, patch_bits, sites


class Dropout(nn.Module):
    """One dropout site: keep the values that a sample's key chooses, scaled up; keep all of them without keys."""

    def __init__(self, config, name, dtypes):
        super().__init__()
        self.site = sites(config).get(name)
        if self.site is not None:
            index = torch.from_numpy(mixed_index(self.site).view(np.int32))
            self.register_buffer("index", index, persistent=False)  # no part of a weights file

    def forward(self, x, key):
        if key is None or self.site is None:
            return x
        return x * (self.keep(key).to(x.dtype) * (1 / self.site.kept))

    def keep(self, key):
        """From the samples' keys (int32 [B, 2]): [B, *site.shape], 1 where an element is kept, else 0."""
        evaluate = flags if key.is_cuda else flags_once
        values = evaluate(key, self.index, self.site.bits, self.site.threshold)
        return values[:, :self.site.size].reshape(-1, *self.site.shape)


class PatchDropout(nn.Module):
    """Leave those of an image's patch tokens out that its key chooses, as many of each image; none without keys."""

    def __init__(self, config, dtypes):
        super().__init__()
        self.site = sites(config).get("patches")
        if self.site is not None:
            self.first, self.count, self.low = int(config.class_token), config.trained_patches, patch_bits(config)
            index = torch.from_numpy(mixed_index(self.site).view(np.int32))
            self.register_buffer("index", index, persistent=False)
            self.register_buffer("numbers", torch.arange(config.patches, dtype=torch.int32), persistent=False)

    def forward(self, x, key):
        if key is None or self.site is None:
            return x
        kept = self.kept(key).long().unsqueeze(2).expand(-1, -1, x.shape[2])
        return torch.cat([x[:, :self.first], x[:, self.first:].gather(1, kept)], dim=1)

    def kept(self, key):
        """From the samples' keys (int32 [B, 2]): int32 [B, trained patches], as `vit.model.dropout.kept_patches`."""
        scores = words(key, self.index) & ~self.low | self.numbers
        return torch.sort(scores, dim=1).values[:, :self.count] & self.low

    def places(self, key, dtype):
        """1 where a patch (axis 1) is the kept one of a number (axis 2), else 0: [B, patches, trained patches]."""
        return (self.kept(key).unsqueeze(1) == self.numbers.unsqueeze(1)).to(dtype)


def draw_keys(x):
    """Draw keys for images whose keys nobody gave, from PyTorch's own generator: int32 [B, 2]."""
    return torch.randint(-2**31, 2**31, (x.shape[0], 2), dtype=torch.int32, device=x.device)


def flags(key: torch.Tensor, index: torch.Tensor, bits: int, threshold: int) -> torch.Tensor:
    """1 for each of the words' values that is below the threshold, else 0: int8 or int16 [B, n * 32 / bits]."""
    values = words(key, index).view(torch.int8 if bits == 8 else torch.int16)
    return values.lt_(threshold)  # in place, as a comparison into bool is 20 times slower on a CPU


# As one opaque operation: compiled for a CPU, the hash would be evaluated anew in each kernel that uses the flags.
flags_once = torch.library.custom_op("vit::flags", flags, mutates_args=())


@flags_once.register_fake
def _(key, index, bits, threshold):
    return key.new_empty((key.shape[0], index.shape[0] * (32 // bits)), dtype=torch.int8 if bits == 8 else torch.int16)


def words(key, index):
    """Hash mixed indices (int32 [n]) with each sample's key (int32 [B, 2]): int32 [B, n]."""
    a, b = key.split(1, dim=1)
    h = index ^ a
    h *= FIRST
    h ^= (h >> 15).bitwise_and_(0x1FFFF)  # int32's shift copies the sign: the bits that come in are masked
    h += b
    h *= SECOND - 2**32
    h ^= (h >> 16).bitwise_and_(0xFFFF)
    return h
