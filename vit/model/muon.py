"""Muon in numpy: the update of a matrix that the three optimizers are held to.

Keller Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks": a matrix moves along its momentum
after that was made nearly orthogonal, so that all of its directions move alike, also those of small gradients.
"""
import numpy as np

# Of the polynomial a*s + b*s**3 + c*s**5 that each iteration takes of the singular values; the published ones. Steep at
# 0, it brings even small values up soon, and leaves all of them near 1 and not at it, which does no harm.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
SMALLEST = 1e-7  # what a norm counts as at least, so that a gradient of zeros is no division by zero
# Liu et al. 2025, "Muon is Scalable for LLM Training", section 2.2: an orthogonal matrix times this and the square root
# of its longer side has entries as large as AdamW's updates usually are, so learning rate and decay can be AdamW's.
RMS = 0.2


def direction(d: np.ndarray, matrices: int = 1) -> np.ndarray:
    """Orthogonalize what a weight would move along, by Newton-Schulz iterations, and scale it to AdamW's size.

    Args:
        d: Momentum of a weight [matrices * rows, columns].
        matrices: How many the weight holds, one above the other; each is orthogonalized by itself.

    Returns:
        An array like `d`: of each matrix U S V.T it has 0.2 * sqrt(max(rows, columns)) * U T V.T, where T is between
        0.68 and 1.21 where S is at least 0.003 of the matrix's norm.
    """
    a, b, c = COEFFICIENTS
    columns = d.shape[-1]
    x = d.reshape(matrices, -1, columns)  # matrices, rows, columns
    rows = x.shape[1]
    x = x.swapaxes(1, 2) if rows > columns else x  # the smaller products
    x = x / np.maximum(np.sqrt(np.square(x).sum(axis=(1, 2), keepdims=True)), SMALLEST)
    for _ in range(ITERATIONS):
        s = x @ x.swapaxes(1, 2)
        x = a * x + (b * s + c * (s @ s)) @ x
    x = x.swapaxes(1, 2) if rows > columns else x
    return (x * (RMS * max(rows, columns)**0.5)).reshape(d.shape)
