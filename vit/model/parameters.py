"""Canonical weights: names, shapes, initial values.

Names and layouts are timm's (also DeiT's and MAE's). "The encoder" is everything but `head.*` and
`decoder.*`. Weights cross frameworks as `{canonical name: ndarray}`.
"""
import hashlib
import itertools
import math
import re
import zlib
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np

from vit.errors import UserError
from vit.model import mimetic
from vit.model.config import ViTConfig

Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Row:
    """One parameter of a model.

    Args:
        name: Its canonical name; in `ROWS`, `{i}` stands for the number of a block.
        shape: Its shape; in `ROWS` one letter an axis: D width, N tokens, C channels, P patch size, M width of the MLP,
            K classes, and Q for 3 * D (rows: q, k, v); of a decoder E width, F for 3 * E, G width of the MLP and X
            values of a patch.
        initial: How its initial values are drawn: "zeros", "ones", "normal" (deviation 0.02), "xavier" (uniform, Glorot
            & Bengio 2010) or "xavier3" (the same for q, k and v as three matrices).
        decays: Whether weight decay always applies to it. (A recipe's `decay_bias_and_norm` adds the others.)
        layer: Its layer for layer-wise learning rates: "embedding", "block" or "head".
        when: The field of `ViTConfig` by which a model has it; None for every model.
    """
    name: str
    shape: tuple[int, ...] | str
    initial: str
    decays: bool
    layer: str
    when: str | None = None


# Every parameter, in forward order. A change of the model begins here.
ROWS = (
    Row("cls_token", "1 1 D", "normal", False, "embedding", "class_token"),
    Row("pos_embed", "1 N D", "normal", False, "embedding"),
    Row("patch_embed.proj.weight", "D C P P", "xavier", True, "embedding"),
    Row("patch_embed.proj.bias", "D", "zeros", False, "embedding", "patch_bias"),
    Row("blocks.{i}.norm1.weight", "D", "ones", False, "block"),
    Row("blocks.{i}.norm1.bias", "D", "zeros", False, "block"),
    Row("blocks.{i}.attn.qkv.weight", "Q D", "xavier3", True, "block"),
    Row("blocks.{i}.attn.qkv.bias", "Q", "zeros", False, "block", "qkv_bias"),
    Row("blocks.{i}.attn.proj.weight", "D D", "xavier", True, "block"),
    Row("blocks.{i}.attn.proj.bias", "D", "zeros", False, "block"),
    Row("blocks.{i}.norm2.weight", "D", "ones", False, "block"),
    Row("blocks.{i}.norm2.bias", "D", "zeros", False, "block"),
    Row("blocks.{i}.mlp.fc1.weight", "M D", "xavier", True, "block"),
    Row("blocks.{i}.mlp.fc1.bias", "M", "zeros", False, "block"),
    Row("blocks.{i}.mlp.fc2.weight", "D M", "xavier", True, "block"),
    Row("blocks.{i}.mlp.fc2.bias", "D", "zeros", False, "block"),
    Row("norm.weight", "D", "ones", False, "head", "token_norm"),
    Row("norm.bias", "D", "zeros", False, "head", "token_norm"),
    Row("fc_norm.weight", "D", "ones", False, "head", "fc_norm"),
    Row("fc_norm.bias", "D", "zeros", False, "head", "fc_norm"),
    Row("head.weight", "K D", "normal", True, "head", "has_head"),
    Row("head.bias", "K", "zeros", False, "head", "has_head"),
    Row("decoder.embed.weight", "E D", "xavier", True, "head", "decoder_depth"),
    Row("decoder.embed.bias", "E", "zeros", False, "head", "decoder_depth"),
    Row("decoder.mask_token", "1 1 E", "normal", False, "head", "decoder_depth"),
    Row("decoder.pos_embed", "1 N E", "normal", False, "head", "decoder_depth"),
    Row("decoder.blocks.{i}.norm1.weight", "E", "ones", False, "head", "decoder_depth"),
    Row("decoder.blocks.{i}.norm1.bias", "E", "zeros", False, "head", "decoder_depth"),
    Row("decoder.blocks.{i}.attn.qkv.weight", "F E", "xavier3", True, "head", "decoder_depth"),
    Row("decoder.blocks.{i}.attn.qkv.bias", "F", "zeros", False, "head", "decoder_bias"),
    Row("decoder.blocks.{i}.attn.proj.weight", "E E", "xavier", True, "head", "decoder_depth"),
    Row("decoder.blocks.{i}.attn.proj.bias", "E", "zeros", False, "head", "decoder_depth"),
    Row("decoder.blocks.{i}.norm2.weight", "E", "ones", False, "head", "decoder_depth"),
    Row("decoder.blocks.{i}.norm2.bias", "E", "zeros", False, "head", "decoder_depth"),
    Row("decoder.blocks.{i}.mlp.fc1.weight", "G E", "xavier", True, "head", "decoder_depth"),
    Row("decoder.blocks.{i}.mlp.fc1.bias", "G", "zeros", False, "head", "decoder_depth"),
    Row("decoder.blocks.{i}.mlp.fc2.weight", "E G", "xavier", True, "head", "decoder_depth"),
    Row("decoder.blocks.{i}.mlp.fc2.bias", "E", "zeros", False, "head", "decoder_depth"),
    Row("decoder.norm.weight", "E", "ones", False, "head", "decoder_depth"),
    Row("decoder.norm.bias", "E", "zeros", False, "head", "decoder_depth"),
    Row("decoder.pred.weight", "X E", "xavier", True, "head", "decoder_depth"),
    Row("decoder.pred.bias", "X", "zeros", False, "head", "decoder_depth"),
)
_BY_NAME = {row.name: row for row in ROWS}


def rows(config: ViTConfig) -> list[Row]:
    """List a model's parameters in forward order, with their names and shapes filled in."""
    sizes = {"1": 1, "D": config.width, "N": config.tokens, "C": config.in_channels, "P": config.patch_size,
             "M": config.mlp_dim, "K": config.num_classes, "Q": 3 * config.width, "E": config.decoder_width,
             "F": 3 * config.decoder_width, "G": 4 * config.decoder_width,
             "X": config.in_channels * config.patch_size**2}
    present = [replace(row, shape=tuple(sizes[letter] for letter in row.shape.split()))
               for row in ROWS if row.when is None or getattr(config, row.when)]
    found = []
    for begin, members in itertools.groupby(present, lambda row: row.name.rpartition("blocks.{i}")[:2]):
        group = list(members)
        depth = {("", ""): None, ("", "blocks.{i}"): config.depth}.get(begin, config.decoder_depth)
        found += group if depth is None else [replace(row, name=row.name.format(i=i))
                                              for i in range(depth) for row in group]
    return found


def row_of(name: str) -> Row:
    """Find the row of `ROWS` that a canonical name belongs to."""
    return _BY_NAME[re.sub(r"^(decoder\.)?blocks\.\d+\.", r"\1blocks.{i}.", name)]


def layer_of(name: str, depth: int) -> int:
    """Number a parameter's layer for layer-wise learning rates: 0 for the embeddings, then the blocks, then the head.

    Args:
        name: Its canonical name.
        depth: Blocks of its model.
    """
    layer = row_of(name).layer
    return int(name.split(".")[1]) + 1 if layer == "block" else {"embedding": 0, "head": depth + 1}[layer]


def shapes(config: ViTConfig) -> dict[str, tuple[int, ...]]:
    """Give every parameter's canonical name and shape, in forward order."""
    return {row.name: row.shape for row in rows(config)}


def initial(config: ViTConfig, seed: int, initialization: str = "xavier") -> Weights:
    """Draw initial values: a function of (seed, name) alone, so an encoder starts the same whatever its head.

    Matrices are Xavier-uniform (q, k and v each as a matrix of its own), as in Google's vision_transformer; tokens,
    positions and the head are normal with deviation 0.02; biases are 0 and norm scales 1.

    Args:
        config: The model.
        seed: Of the run.
        initialization: "mimetic" for the attention and the positions of `vit.model.mimetic`, else "xavier".

    Returns:
        `{canonical name: float32 array}`.
    """
    weights = {name: initial_value(name, shape, seed) for name, shape in shapes(config).items()}
    return weights | mimetic.attention(config, seed) if initialization == "mimetic" else weights


def initial_value(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Draw one parameter's initial values, float32."""
    how = row_of(name).initial
    if how in ("zeros", "ones"):
        return np.full(shape, how == "ones", np.float32)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if how == "normal":
        return rng.normal(0, 0.02, shape).astype(np.float32)
    fan_out, fan_in = shape[0], math.prod(shape[1:])
    bound = math.sqrt(6 / (fan_in + (fan_out // 3 if how == "xavier3" else fan_out)))
    return rng.uniform(-bound, bound, shape).astype(np.float32)


def follow(model: object, name: str, leaves: dict[str, dict[str, str]]) -> object:
    """Follow a canonical name through a model's attributes to its tensor.

    Args:
        model: A script's ViT.
        name: A canonical name, such as "blocks.0.attn.qkv.weight".
        leaves: The framework's own words for last parts: `{class of the layer: {"weight": "gamma", ...}}`.
    """
    *path, leaf = name.split(".")
    for part in path:
        model = model[int(part)] if part.isdigit() else getattr(model, part)
    return getattr(model, leaves.get(type(model).__name__, {}).get(leaf, leaf))


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


def not_finite(weights: Weights) -> list[str]:
    """List the weights that hold a value which is not finite, by name."""
    return [name for name, value in weights.items() if not np.isfinite(value.sum()) and not np.isfinite(value).all()]


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
    theirs, ours = ({name: value for name, value in weights.items() if not name.startswith(("head.", "decoder."))}
                    for weights in (source, target))
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
