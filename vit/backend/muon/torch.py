"""Muon's update of a matrix in PyTorch: what `vit.model.muon` says, with plain products.

Siblings: `vit/backend/muon/tensorflow.py` and `vit/backend/muon/mindspore.py` define the same names.
"""
import torch

from vit.model.muon import COEFFICIENTS, ITERATIONS, RMS, SMALLEST


def direction(d, matrices):
    """Orthogonalize each of a weight's matrices [matrices * rows, columns], and scale it to AdamW's size."""
    columns = d.shape[1]
    x = d.reshape(matrices, -1, columns)  # matrices, rows, columns
    rows = x.shape[1]
    x = x.mT if rows > columns else x  # the smaller products
    x = x / torch.clamp(torch.sqrt(torch.sum(torch.square(x), dim=(1, 2), keepdim=True)), min=SMALLEST)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        s = x @ x.mT
        x = a * x + (b * s + c * (s @ s)) @ x
    x = x.mT if rows > columns else x
    return (x * (RMS * max(rows, columns)**0.5)).reshape(d.shape)
