"""The forward pass in numpy: the oracle that the three models are held to, and the attention maps of any weights.

Written for reading, from the paper's equations 1-4 (Dosovitskiy et al. 2021), not for speed.
Legend: B batch, N tokens, D width, H heads, P patch size, C channels, S image size.
"""
from collections.abc import Callable

import numpy as np
from scipy.special import erf

from vit.model.config import PIXEL_NORM_EPS, ViTConfig, stage_names
from vit.model.dropout import keep, kept_patches, sites
from vit.model.parameters import Weights

Drop = Callable[[str, np.ndarray], np.ndarray]
Product = Callable[[np.ndarray, np.ndarray], np.ndarray]


def forward(config: ViTConfig, weights: Weights, images: np.ndarray, attention: list[np.ndarray] | None = None,
            key: np.ndarray | None = None, product: Product = np.matmul) -> dict[str, np.ndarray]:
    """Run the model in float64.

    Args:
        config: The model's spec.
        weights: Canonical weights.
        images: Normalized images [B, S, S, C].
        attention: If given, each block's attention weights [B, H, N, N], before dropout, are appended to it.
        key: The samples' keys of `vit.model.dropout.keys` [B, 2], or None for no dropout.
        product: Of two matrices: numpy's, or a rounded one (`vit.model.precision.product`).

    Returns:
        `{stage name: array}`: `tokens` and the block halves [B, N, D], `norm` [B, D] (pooled), `logits` [B, classes];
        of a masked autoencoder, which needs keys, `norm` [B, N, D] and `losses` [B].
    """
    w = {name: np.asarray(value, np.float64) for name, value in weights.items()}

    def drop(name: str, x: np.ndarray) -> np.ndarray:
        if key is None or name not in sites(config):
            return x
        site = sites(config)[name]
        return x * (keep(key, site) / site.kept)

    x = _tokens(config, w, np.asarray(images, np.float64), product)
    if key is not None and "patches" in sites(config):
        first = int(config.class_token)
        kept = np.take_along_axis(x[:, first:], kept_patches(key, config)[:, :, None], axis=1)
        x = np.concatenate([x[:, :first], kept], axis=1)
    x = drop("tokens", x)
    stages = [x]
    for i in range(config.depth):
        stages += _block(config, w, f"blocks.{i}", stages[-1], attention, drop, product)
    x = stages[-1]
    if config.decoder_depth:
        x = layer_norm(x, w["norm.weight"], w["norm.bias"], config.final_norm_eps)
        stages += [x, _losses(config, w, x, _patches(config, np.asarray(images, np.float64)), key, drop, product)]
        return dict(zip(stage_names(config), stages, strict=True))
    x = x[:, config.pooled]
    if config.fc_norm:
        x = layer_norm(x.mean(axis=1), w["fc_norm.weight"], w["fc_norm.bias"], config.final_norm_eps)
    else:
        x = layer_norm(x, w["norm.weight"], w["norm.bias"], config.final_norm_eps).mean(axis=1)
    stages += [x, _linear(w, "head", x, product)]
    return dict(zip(stage_names(config), stages, strict=True))


def layer_norm(x: np.ndarray, scale: np.ndarray, shift: np.ndarray, eps: float) -> np.ndarray:
    """Normalize the last axis (Ba et al. 2016); the variance is the biased one."""
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean)**2).mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * scale + shift


def gelu(x: np.ndarray) -> np.ndarray:
    """The exact GELU, `x * Phi(x)` (Hendrycks & Gimpel 2016), not its tanh approximation."""
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """The GELU's approximation with tanh (the same paper, section 2)."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def relu(x: np.ndarray) -> np.ndarray:
    """The rectifier."""
    return np.maximum(x, 0)


def _linear(w: Weights, name: str, x: np.ndarray, product: Product) -> np.ndarray:
    y = product(x, w[f"{name}.weight"].T)
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def _tokens(config: ViTConfig, w: Weights, images: np.ndarray, product: Product) -> np.ndarray:
    B, D = len(images), config.width
    x = product(_patches(config, images), w["patch_embed.proj.weight"].reshape(D, -1).T)
    if config.patch_bias:
        x = x + w["patch_embed.proj.bias"]
    if config.class_token:
        x = np.concatenate([np.broadcast_to(w["cls_token"], (B, 1, D)), x], axis=1)
    return x + w["pos_embed"]


def _patches(config: ViTConfig, images: np.ndarray) -> np.ndarray:
    B, S, _, C = images.shape
    P = config.patch_size
    rows = images.reshape(B, S // P, P, S // P, P, C).transpose(0, 1, 3, 5, 2, 4)  # B, S/P, S/P, C, P, P
    return rows.reshape(B, config.patches, C * P * P)


def _block(config: ViTConfig, w: Weights, block: str, x: np.ndarray, attention: list | None, drop: Drop,
           product: Product) -> list[np.ndarray]:
    halves = []
    for norm, branch in (("norm1", "attn"), ("norm2", "mlp")):
        scale, shift = w[f"{block}.{norm}.weight"], w[f"{block}.{norm}.bias"]
        y = layer_norm(x, scale, shift, config.block_norm_eps) if config.norm_order == "pre" else x
        if branch == "attn":
            y = _attention(config, w, f"{block}.attn", y, attention, drop, product)
        else:
            y = _mlp(config, w, f"{block}.mlp", y, drop, product)
        x = x + drop(f"{block}.{branch}.path", y)
        if config.norm_order == "post":
            x = layer_norm(x, scale, shift, config.block_norm_eps)
        halves.append(x)
    return halves


def _losses(config: ViTConfig, w: Weights, x: np.ndarray, patches: np.ndarray, key: np.ndarray, drop: Drop,
            product: Product) -> np.ndarray:
    """What a decoder makes of hidden patches, held to their pixels (He et al. 2022): a loss an image [B]."""
    first, kept, decoder = int(config.class_token), kept_patches(key, config), config.decoder
    x = _linear(w, "decoder.embed", x, product)
    whole = np.tile(w["decoder.mask_token"], (*patches.shape[:2], 1))  # B, patches, decoder's width
    hidden = np.ones(patches.shape[:2])
    np.put_along_axis(whole, kept[:, :, None], x[:, first:], axis=1)
    np.put_along_axis(hidden, kept, 0, axis=1)
    x = np.concatenate([x[:, :first], whole], axis=1) + w["decoder.pos_embed"]
    for i in range(decoder.depth):
        x = _block(decoder, w, f"decoder.blocks.{i}", x, None, drop, product)[-1]
    x = layer_norm(x, w["decoder.norm.weight"], w["decoder.norm.bias"], config.final_norm_eps)
    x = _linear(w, "decoder.pred", x[:, first:], product)  # B, patches, values of a patch
    targets = layer_norm(patches, np.ones(1), np.zeros(1), PIXEL_NORM_EPS)
    errors = ((x - targets)**2).mean(axis=2)
    return (errors * hidden).sum(axis=1) / hidden.sum(axis=1)


def _attention(config: ViTConfig, w: Weights, name: str, x: np.ndarray, attention: list | None,
               drop: Drop, product: Product) -> np.ndarray:
    B, N, D = x.shape
    H = config.heads
    qkv = _linear(w, f"{name}.qkv", x, product).reshape(B, N, 3, H, D // H)
    q, k, v = qkv.transpose(2, 0, 3, 1, 4)  # each B, H, N, D/H
    scores = product(q / np.sqrt(D // H), k.transpose(0, 1, 3, 2))
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    scores = scores / scores.sum(axis=-1, keepdims=True)  # B, H, N, N
    if attention is not None:
        attention.append(scores)
    x = product(drop(f"{name}.weights", scores), v).transpose(0, 2, 1, 3).reshape(B, N, D)
    return drop(f"{name}.proj", _linear(w, f"{name}.proj", x, product))


def _mlp(config: ViTConfig, w: Weights, name: str, x: np.ndarray, drop: Drop, product: Product) -> np.ndarray:
    activation = {"gelu": gelu, "gelu_tanh": gelu_tanh, "relu": relu}[config.activation]
    x = drop(f"{name}.fc1", activation(_linear(w, f"{name}.fc1", x, product)))
    return drop(f"{name}.fc2", _linear(w, f"{name}.fc2", x, product))
