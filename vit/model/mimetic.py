"""Initial weights of attention that look like those of pretrained models, in closed form.

Trockman & Kolter 2023, "Mimetic Initialization of Self-Attention Layers": in trained Vision Transformers the product of
a head's query and key matrices is near the identity, and that of value and projection near minus the identity; models
that begin so learn more from little data. Positions begin as sines and cosines, so that near ones are alike.
"""
import zlib

import numpy as np

from vit.model.config import ViTConfig

QUERY_KEY, VALUE_PROJECTION = (0.7, 0.7), (0.4, -0.4)  # shares of noise and of the identity; the paper's for images
_TEMPERATURE = 10_000  # of the slowest sine


def attention(config: ViTConfig, seed: int) -> dict[str, np.ndarray]:
    """Make the attention weights and the position embedding of a model, each a function of (seed, name) alone.

    In each block, with W.T the matrix that multiplies a token from the right, and one product of q and k for each head:

        Wq.T @ Wk   is the nearest of rank D/H to  0.7 * Z + 0.7 * I
        Wv.T @ Wo.T is                             0.4 * Z - 0.4 * I       Z normal, of variance 1/D

    Returns:
        `{canonical name: float32 array}` of all "attn.qkv.weight", "attn.proj.weight" and "pos_embed".
    """
    D, H = config.width, config.heads
    found = {"pos_embed": positions(config)}
    for i in range(config.depth):
        name = f"blocks.{i}.attn.qkv.weight"
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        heads = [_factors(rng, D, *QUERY_KEY, rank=D // H) for _ in range(H)]
        q, k = (np.concatenate([pair[side] for pair in heads]) for side in (0, 1))  # rows: head after head
        v, out = _factors(rng, D, *VALUE_PROJECTION, rank=D)
        found[name] = np.concatenate([q, k, v]).astype(np.float32)
        found[f"blocks.{i}.attn.proj.weight"] = np.ascontiguousarray(out.T, np.float32)
    return found


def _factors(rng: np.random.Generator, width: int, noise: float, identity: float,
             rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw noise * Z + identity * I, and give a and b [rank, width] of which a.T @ b is its nearest of that rank."""
    u, s, vt = np.linalg.svd(noise * rng.normal(0, width**-0.5, (width, width)) + identity * np.eye(width))
    # Either sign of a pair makes the same product: this one does not depend on the library.
    sign = np.sign(u[np.abs(u).argmax(axis=0), np.arange(width)])
    a, b = u * (sign * np.sqrt(s)), vt * (sign * np.sqrt(s))[:, None]
    return a.T[:rank], b[:rank]


def positions(config: ViTConfig) -> np.ndarray:
    """Give sines and cosines of the patches' rows and columns (Vaswani et al. 2017), float32 [1, N, D].

    A quarter of the width each; what is left of it, and the class token's, is 0.
    """
    quarter = config.width // 4
    frequency = _TEMPERATURE**-(np.arange(quarter) / max(quarter, 1))
    rows, columns = (axis.reshape(-1, 1) * frequency for axis in np.indices((config.grid, config.grid)))
    found = np.zeros((1, config.tokens, config.width), np.float32)
    waves = np.concatenate([np.sin(rows), np.cos(rows), np.sin(columns), np.cos(columns)], axis=1)
    found[0, config.tokens - config.patches:, :4 * quarter] = waves
    return found
