"""Muon's update of a matrix in TensorFlow: what `vit.model.muon` says, with plain products.

Siblings: `vit/backend/muon/torch.py` and `vit/backend/muon/mindspore.py` define the same names.
"""
import fe_compat

from vit.model.muon import COEFFICIENTS, ITERATIONS, RMS, SMALLEST

tf = fe_compat.legacy_tensorflow()


def direction(d, matrices):
    """Orthogonalize each of a kernel's matrices [columns, matrices * rows], and scale it to AdamW's size."""
    columns = d.shape[0]
    x = tf.reshape(tf.transpose(d), (matrices, -1, columns))  # matrices, rows, columns
    rows = x.shape[1]
    x = tf.linalg.matrix_transpose(x) if rows > columns else x  # the smaller products
    x = x / tf.maximum(tf.sqrt(tf.reduce_sum(tf.square(x), axis=(1, 2), keepdims=True)), SMALLEST)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        s = tf.matmul(x, x, transpose_b=True)
        x = a * x + (b * s + c * (s @ s)) @ x
    x = tf.linalg.matrix_transpose(x) if rows > columns else x
    return tf.transpose(tf.reshape(x * (RMS * max(rows, columns)**0.5), (matrices * rows, columns)))
