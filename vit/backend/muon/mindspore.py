"""Muon's update of a matrix in MindSpore: what `vit.model.muon` says, with plain products.

Siblings: `vit/backend/muon/torch.py` and `vit/backend/muon/tensorflow.py` define the same names.
"""
import mindspore as ms
from mindspore import ops

from vit.model.muon import COEFFICIENTS, ITERATIONS, RMS, SMALLEST

# A bare number would be a float32, in a graph also one that is made there.
_RMS, _SMALLEST, *_COEFFICIENTS = (ms.Tensor(number, ms.float64) for number in (RMS, SMALLEST, *COEFFICIENTS))
_PRODUCT, _PRODUCT_TB = ops.BatchMatMul(), ops.BatchMatMul(transpose_b=True)


def direction(d, matrices):
    """Orthogonalize each of a weight's matrices [matrices * rows, columns], and scale it to AdamW's size."""
    columns = d.shape[1]
    x = d.reshape(matrices, -1, columns)  # matrices, rows, columns
    rows = x.shape[1]
    x = x.swapaxes(1, 2) if rows > columns else x  # the smaller products
    x = x / ops.maximum(ops.sqrt(ops.square(x).sum(axis=(1, 2), keepdims=True)), ops.cast(_SMALLEST, x.dtype))
    a, b, c = [ops.cast(number, x.dtype) for number in _COEFFICIENTS]
    for _ in range(ITERATIONS):
        s = _PRODUCT_TB(x, x)
        x = a * x + _PRODUCT(b * s + c * _PRODUCT(s, s), x)
    x = x.swapaxes(1, 2) if rows > columns else x
    scale = ops.cast(_RMS, x.dtype) * ops.sqrt(ops.cast(max(rows, columns), x.dtype))
    return (x * scale).reshape(d.shape)
