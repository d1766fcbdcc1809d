"""Mixed precision, as all three scripts have it: which numbers are narrow, and how a loss is scaled for float16.

The factors of a product (linear layers, and the two products of attention) are rounded to bfloat16 or float16, and
its result is widened again; weights, residual stream, norms, softmax, GELU and loss stay as they are, float32.
(PyTorch's fused attention, which runs without attention dropout, does not round the scores between its two products.)
"""
from typing import NamedTuple

import numpy as np

PRECISIONS = ("fp32", "bf16", "fp16")
_PRODUCTS = {"bf16": "bfloat16", "fp16": "float16"}

# Loss scaling (Micikevicius et al. 2018, section 3.2), with the constants of torch.amp.GradScaler.
FIRST_SCALE = 2.0**16
GROWTH_STEPS = 2000  # as many good steps in a row double the scale; a bad one is skipped, and halves it


class Dtypes(NamedTuple):
    """Number types of one model, by name or in a framework's own terms.

    Attributes:
        weights: Of the weights and of everything computed but products.
        products: Of the factors of products.
    """
    weights: object
    products: object


def dtype_names(dtype: str, precision: str) -> Dtypes:
    """The names of a model's number types.

    Args:
        dtype: "float32" or "float64".
        precision: `Recipe.precision`: "fp32" for products in `dtype` too, "bf16" or "fp16".
    """
    return Dtypes(dtype, _PRODUCTS.get(precision, dtype))


def scales_loss(precision: str) -> bool:
    """Whether a loss is scaled: float16 has too few exponents for small gradients, bfloat16 has float32's."""
    return precision == "fp16"


def product(a: np.ndarray, b: np.ndarray, precision: str) -> np.ndarray:
    """A matrix product in a precision, as the oracle has it: exact but for the rounding of factors and result."""
    return rounded(rounded(a, precision) @ rounded(b, precision), precision)


def rounded(x: np.ndarray, precision: str) -> np.ndarray:
    """The nearest numbers of a precision's products, the even one of two; as float64."""
    if precision == "fp16":
        return x.astype(np.float16).astype(np.float64)
    bits = x.astype(np.float32).view(np.uint32)
    if precision == "bf16":  # the upper half of a float32
        bits = bits + (0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)
