"""The variants in numbers: parameters, FLOPs, input size."""
import math

from vit import terminal
from vit.model.config import VARIANTS, ViTConfig
from vit.model.parameters import shapes

COUNTED = ("FLOPs are of one image's forward pass, two for each multiplication and addition in the matrix products "
           "(patches, q, k and v, attention, MLP, head); norms, softmax and activations are left out.")


def parameters(config: ViTConfig) -> int:
    """Values in a model's weights, the head's included."""
    return sum(math.prod(shape) for shape in shapes(config).values())


def flops(config: ViTConfig) -> int:
    """FLOPs of one image's forward pass; `COUNTED` says what is counted."""
    N, D = config.tokens, config.width
    patches = config.patches * D * config.in_channels * config.patch_size**2
    attention = N * D * 3 * D + 2 * N * N * D + N * D * D  # q, k, v; scores and weighted sums; output projection
    mlp = 2 * N * D * config.mlp_dim
    return 2 * (patches + config.depth * (attention + mlp) + D * config.num_classes)


def describe(config: ViTConfig) -> str:
    """A model in one line, with the variants of that size."""
    size = ("width", "depth", "heads", "mlp_dim", "patch_size", "norm_order")
    names = [name for name, known in VARIANTS.items() if all(getattr(known, f) == getattr(config, f) for f in size)]
    like = f" (the size of {', '.join(names)})" if names else ""
    return (f"ViT of width {config.width}, depth {config.depth}, {config.heads} heads, patch {config.patch_size}, "
            f"{config.image_size} x {config.image_size} images, {config.num_classes} classes, "
            f"{parameters(config):,} parameters{like}")


def table(columns: int | None = None) -> str:
    """All variants, one per line; `columns` is the width of the window that they are for, or None."""
    rows = [[name, f"{parameters(config):,}", f"{flops(config) / 1e9:.2f}",
             f"{config.image_size} x {config.image_size} x {config.in_channels}", f"{config.patch_size}",
             f"{config.num_classes}"] for name, config in VARIANTS.items()]
    lines = terminal.table(["variant", "parameters", "GFLOPs", "input", "patch", "classes"], rows, columns,
                           left=("variant",), spare=("classes", "patch", "input"))
    return "\n".join([*lines, terminal.wrapped(COUNTED, columns, indent="")])
