"""What dropout and stochastic depth drop: a function of (seed, epoch, pass, sample, site), in every framework.

A model is given a key of 8 bytes for each image, and evaluates what it drops by itself; so that does not depend on the
framework, on the batch that an image falls into, or on what was run before.

A word is a hash of an index and of a key of two 32-bit halves: the index is mixed (lowbias32, Wellons 2018), xor the
first half, and mixed once more, with the second half added between the two multiplications. Each site owns a range of
indices. A word holds four signed 8-bit values, or two of 16 bits; an element is kept where its value is below the
site's threshold. 32-bit integers wrap around everywhere, so every framework has the same bits; signed bytes are what
all of them compare fast, on a GPU too.

Two halves, as 100 epochs of 50,000 samples are 5e6 keys: of 32 bits, some 3,000 pairs of them would be the same.
"""
import functools
import math
from typing import NamedTuple

import numpy as np

from vit.model.config import ViTConfig

FIRST, SECOND = 0x7FEB352D, 0x846CA68B  # lowbias32's multipliers
_CLOSE = 0.05  # 8 bits are enough where they keep a rate to this share of itself


class Site(NamedTuple):
    """One site of a model, where values are dropped.

    Attributes:
        start: Index of its first word; in a model, where the site before it ends.
        shape: Of a sample's flags; axes of 1 are broadcast.
        bits: Of a value: 8 or 16; 32 for patches.
        level: How many of the 2**bits values are kept.
    """
    start: int
    shape: tuple[int, ...]
    bits: int
    level: int

    @property
    def size(self) -> int:
        """Flags of a sample."""
        return math.prod(self.shape)

    @property
    def lanes(self) -> int:
        """Values of a word."""
        return 32 // self.bits

    @property
    def words(self) -> int:
        """Words of a sample; the last may be used in part."""
        return -(-self.size // self.lanes)

    @property
    def threshold(self) -> int:
        """Signed values below it are kept."""
        return self.level - 2**(self.bits - 1)

    @property
    def kept(self) -> float:
        """Share that is kept on average; exact in float32. What is kept is multiplied by 1 / kept."""
        return self.level / 2**self.bits


def site_at(start: int, shape: tuple[int, ...], rate: float) -> Site:
    """Give the site that drops at a rate in (0, 1): to 0.002 and to 5 % of the rate; never nothing, nor everything."""
    dropped = round(2**8 * rate)
    if 0 < dropped < 2**8 and abs(dropped / 2**8 - rate) <= _CLOSE * rate:
        return Site(start, shape, 8, 2**8 - dropped)
    return Site(start, shape, 16, min(max(round(2**16 * (1 - rate)), 1), 2**16 - 1))


@functools.cache
def sites(config: ViTConfig) -> dict[str, Site]:
    """List the sites where a model drops values, by name, in forward order; a rate of 0 makes no site.

    The rates are Dropout's (Srivastava et al. 2014) but for `path`: stochastic depth, by which a whole branch of a
    sample is dropped (Huang et al. 2016). `patches` has a word for each patch: `kept_patches` says which are kept.
    """
    N, D, H, M = config.trained_tokens, config.width, config.heads, config.mlp_dim
    wanted = [("tokens", (N, D), config.dropout)]
    for i in range(config.depth):
        path = config.drop_path_rate(i)
        wanted += [(f"blocks.{i}.attn.weights", (H, N, N), config.attention_dropout),
                   (f"blocks.{i}.attn.proj", (N, D), config.dropout),
                   (f"blocks.{i}.attn.path", (1, 1), path),
                   (f"blocks.{i}.mlp.fc1", (N, M), config.dropout),
                   (f"blocks.{i}.mlp.fc2", (N, D), config.dropout),
                   (f"blocks.{i}.mlp.path", (1, 1), path)]
    found, start = {}, 0
    if config.trained_patches < config.patches:
        found["patches"] = Site(0, (config.patches,), 32, 2**32 * config.trained_patches // config.patches)
        start = found["patches"].words
    for name, shape, rate in wanted:
        if rate:
            found[name] = site_at(start, shape, rate)
            start += found[name].words
    return found


def keys(seed: int, epoch: int, pass_: int, index: np.ndarray | int) -> np.ndarray:
    """Give the keys of samples: outputs number `index` of SplitMix64 (Steele et al. 2014), seeded by the other three.

    Args:
        seed: Of the run; like the next two, not negative.
        epoch: Counts from 1.
        pass_: Over the data in that epoch; counts from 0.
        index: Of the samples in their set [B], or of one.

    Returns:
        int32 [B, 2]. No two samples of one pass have the same key.
    """
    z = _pass_seed(seed, epoch, pass_) + (np.atleast_1d(index).astype(np.uint64) + np.uint64(1)) * _GOLDEN
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return (z ^ z >> np.uint64(31)).astype("<u8").view("<i4").reshape(-1, 2)


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # SplitMix64's step


@functools.lru_cache(maxsize=8)  # the samples of a pass are asked for one by one
def _pass_seed(seed: int, epoch: int, pass_: int) -> np.ndarray:
    return np.random.SeedSequence((seed, epoch, pass_)).generate_state(1, np.uint64)


def mixed_index(site: Site) -> np.ndarray:
    """Give the mixed indices of a site's words, uint32 [words]: the same for all samples, so a constant of a model."""
    h = np.arange(site.start, site.start + site.words, dtype=np.uint32)
    h = (h ^ h >> 16) * FIRST
    h = (h ^ h >> 15) * SECOND
    return h ^ h >> 16


def words(key: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Hash mixed indices (uint32 [n]) with each sample's key (int32 [B, 2]): uint32 [B, n]."""
    a, b = np.split(key.view(np.uint32), 2, axis=1)
    h = index ^ a
    shifted = np.empty_like(h)  # one buffer, as fresh memory takes longer than the arithmetic
    h *= FIRST
    h ^= np.right_shift(h, 15, out=shifted)
    h += b
    h *= SECOND
    h ^= np.right_shift(h, 16, out=shifted)
    return h


_held_index = functools.cache(mixed_index)


def keep(key: np.ndarray, site: Site) -> np.ndarray:
    """Say which elements of a site are kept, from the samples' keys (int32 [B, 2]): bool [B, *site.shape]."""
    values = words(key, _held_index(site)).astype("<u4", copy=False).view(f"<i{site.bits // 8}")
    return (values[:, :site.size] < site.threshold).reshape(-1, *site.shape)


def patch_bits(config: ViTConfig) -> int:
    """The lowest bits of a word, all set: as many as number a model's patches."""
    return (1 << (config.patches - 1).bit_length()) - 1


def kept_patches(key: np.ndarray, config: ViTConfig) -> np.ndarray:
    """Say which patches of a sample are kept: those of the smallest words, so as many of each sample.

    A word's lowest bits give way to the number of its patch. So no two of a sample are the same, and to sort them is to
    number them: in every framework, in one order.

    Args:
        key: The samples' keys, int32 [B, 2].
        config: A model with `patch_dropout`.

    Returns:
        int32 [B, trained_patches], a sample's in the order of their words.
    """
    low = np.uint32(patch_bits(config))
    h = words(key, _held_index(sites(config)["patches"]))
    h = h & ~low | np.arange(config.patches, dtype=np.uint32)
    return np.sort(h.view(np.int32), axis=1)[:, :config.trained_patches] & low.astype(np.int32)
