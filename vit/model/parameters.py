"""Canonical weights: names, shapes, initial values.

Names and layouts are timm's (also DeiT's and MAE's). "The encoder" is everything but `head.*`. Weights cross
frameworks as `{canonical name: ndarray}`.
"""
import hashlib
import math
import zlib

import ml_dtypes
import numpy as np

from vit.errors import UserError
from vit.model.config import ViTConfig

Weights = dict[str, np.ndarray]


def shapes(config: ViTConfig) -> dict[str, tuple[int, ...]]:
    """Every parameter's canonical name and shape, in forward order."""
    D, C, P, M = config.width, config.in_channels, config.patch_size, config.mlp_dim
    table: dict[str, tuple[int, ...]] = {}
    if config.class_token:
        table["cls_token"] = (1, 1, D)
    table["pos_embed"] = (1, config.tokens, D)
    table["patch_embed.proj.weight"] = (D, C, P, P)
    if config.patch_bias:
        table["patch_embed.proj.bias"] = (D, )
    for i in range(config.depth):
        block = f"blocks.{i}"
        table[f"{block}.norm1.weight"] = table[f"{block}.norm1.bias"] = (D, )
        table[f"{block}.attn.qkv.weight"] = (3 * D, D)  # rows: q, k, v
        if config.qkv_bias:
            table[f"{block}.attn.qkv.bias"] = (3 * D, )
        table[f"{block}.attn.proj.weight"] = (D, D)
        table[f"{block}.attn.proj.bias"] = (D, )
        table[f"{block}.norm2.weight"] = table[f"{block}.norm2.bias"] = (D, )
        table[f"{block}.mlp.fc1.weight"] = (M, D)
        table[f"{block}.mlp.fc1.bias"] = (M, )
        table[f"{block}.mlp.fc2.weight"] = (D, M)
        table[f"{block}.mlp.fc2.bias"] = (D, )
    table["norm.weight"] = table["norm.bias"] = (D, )
    table["head.weight"] = (config.num_classes, D)
    table["head.bias"] = (config.num_classes, )
    return table


def initial(config: ViTConfig, seed: int) -> Weights:
    """Initial values: a function of (seed, name) alone, so an encoder starts the same whatever its head.

    Matrices are Xavier-uniform (q, k and v each as a matrix of its own), as in Google's vision_transformer; tokens,
    positions and the head are normal with deviation 0.02; biases are 0 and norm scales 1.

    Returns:
        `{canonical name: float32 array}`.
    """
    return {name: initial_value(name, shape, seed) for name, shape in shapes(config).items()}


def initial_value(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """One of the initial values, float32."""
    return _initial_value(name, shape, seed).astype(np.float32)


def _initial_value(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if "norm" in name:
        return np.ones(shape) if name.endswith("weight") else np.zeros(shape)
    if name.endswith("bias"):
        return np.zeros(shape)
    if name in ("cls_token", "pos_embed", "head.weight"):
        return rng.normal(0, 0.02, shape)
    fan_out, fan_in = shape[0], math.prod(shape[1:])
    if name.endswith("qkv.weight"):
        fan_out //= 3
    limit = math.sqrt(6 / (fan_in + fan_out))
    return rng.uniform(-limit, limit, shape)


def perturbed(config: ViTConfig, seed: int) -> Weights:
    """Initial values with noise on all of them, so that in a comparison no bias is 0 and no norm scale is 1."""
    rng = np.random.default_rng(seed)
    return {name: (value + rng.normal(0, 0.1, value.shape)).astype(np.float32)
            for name, value in initial(config, seed).items()}


def check(weights: Weights, config: ViTConfig) -> Weights:
    """Hold weights to a model's names and shapes.

    Returns:
        The weights, bfloat16 ones widened to float32 (exactly), since not every framework takes those.

    Raises:
        UserError: Names are missing or extra, or a shape differs; the message lists them.
    """
    wanted = shapes(config)
    faults = [f"missing {name}" for name in wanted if name not in weights]
    faults += [f"unexpected {name}" for name in weights if name not in wanted]
    faults += [f"{name} is {list(weights[name].shape)}, not {list(shape)}" for name, shape in wanted.items()
               if name in weights and tuple(weights[name].shape) != shape]
    faults += [f"{name} is of type {value.dtype}, not a floating-point one" for name, value in weights.items()
               if value.dtype.kind != "f" and value.dtype != ml_dtypes.bfloat16]
    if faults:
        more = f", and {len(faults) - 6} more" if len(faults) > 6 else ""
        raise UserError(f"weights do not fit the model: {', '.join(faults[:6])}{more}")
    return {name: value.astype(np.float32) if value.dtype == ml_dtypes.bfloat16 else value
            for name, value in weights.items()}


def copy_encoder(source: Weights, target: Weights) -> tuple[Weights, str]:
    """Put one model's encoder under another's head.

    Args:
        source: Weights of the pretrained model.
        target: Weights of the model to start from; its `head.*` stays.

    Returns:
        The new weights, and one line that says what was copied and what is new.

    Raises:
        UserError: The two encoders differ in a name or a shape.
    """
    theirs = {name: value for name, value in source.items() if not name.startswith("head.")}
    ours = {name: value for name, value in target.items() if not name.startswith("head.")}
    differing = sorted(set(theirs) ^ set(ours))
    differing += [name for name in ours if name in theirs and ours[name].shape != theirs[name].shape]
    if differing:
        raise UserError(f"the two encoders differ in {', '.join(differing[:6])}"
                        + (f" and {len(differing) - 6} more" if len(differing) > 6 else ""))
    heads = [name for name in target if name.startswith("head.")]
    line = (f"encoder copied: {len(theirs)} tensors, {sum(v.size for v in theirs.values()):,} values; "
            f"new: {', '.join(f'{name} {list(target[name].shape)}' for name in heads)}")
    return {name: theirs.get(name, value).copy() for name, value in target.items()}, line


def sha256(weights: Weights) -> str:
    """Fingerprint of weights: over names, dtypes, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = np.ascontiguousarray(weights[name])
        digest.update(f"{name} {value.dtype.str} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
