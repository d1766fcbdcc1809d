"""The masks of dropout and stochastic depth: a function of (seed, epoch, pass, sample, site), in every framework.

A model holds no random state. It is given one row of flags for each image, in which each of its dropout sites has its
part; so masks do not depend on the framework, on the batch that an image falls into, or on what was run before.
"""
import functools
import math
from typing import NamedTuple

import numpy as np

from vit.model.config import ViTConfig

_LEVELS = 2**16


class Site(NamedTuple):
    """One site of a model, where values are dropped.

    Args:
        start: Where its flags begin in a sample's row.
        stop: Where they end.
        shape: Of a sample's flags; axes of 1 are broadcast.
        kept: How much of it is kept on average. A multiple of 2**-16, so that frameworks that take a bare number for
            a float32 divide by the same number as those that do not.
    """
    start: int
    stop: int
    shape: tuple[int, ...]
    kept: float


@functools.cache
def sites(config: ViTConfig) -> dict[str, Site]:
    """List the sites where a model drops values, by name, in forward order; a rate of 0 makes no site.

    The rates are Dropout's (Srivastava et al. 2014) but for `path`: stochastic depth, by which a whole branch of a
    sample is dropped (Huang et al. 2016).
    """
    N, D, H, M = config.tokens, config.width, config.heads, config.mlp_dim
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
    for name, shape, rate in wanted:
        kept = round(_LEVELS * (1 - rate))
        if kept < _LEVELS:
            stop = start + math.prod(shape)
            found[name] = Site(start, stop, shape, max(kept, 1) / _LEVELS)
            start = stop
    return found


def draw(config: ViTConfig, *key: int) -> np.ndarray | None:
    """The flags of one sample, each 1 with its site's probability and 0 otherwise.

    Args:
        config: The model.
        key: What they are a function of, such as (seed, epoch, pass, index); not negative.

    Returns:
        uint8 [sum of the sites' sizes], or None for a model that drops nothing.
    """
    places = sites(config)
    if not places:
        return None
    size = next(reversed(places.values())).stop
    words = np.random.PCG64DXSM(np.random.SeedSequence(key)).random_raw(-(-size // 4))
    levels = words.astype("<u8", copy=False).view("<u2")[:size]
    flags = np.empty(size, np.uint8)
    for site in places.values():
        here = slice(site.start, site.stop)
        np.less(levels[here], round(site.kept * _LEVELS), out=flags[here].view(bool))
    return flags
