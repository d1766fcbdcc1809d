"""Several workers in MindSpore: what msrun tells a process.

Siblings: `vit/backend/workers/torch.py` and `vit/backend/workers/tensorflow.py` define the same names.
"""
import os

from mindspore import ops

from vit.errors import UserError


def announced():
    """Refuse to be one of several workers; None where the process was started alone."""
    if int(os.environ.get("MS_WORKER_NUM", 1)) > 1:
        raise UserError("MindSpore trains with one worker only: the scripts of PyTorch and TensorFlow can be several")


def weighted_sum(values, weights):
    """Sum values [B], each times its weight [B]."""
    return ops.sum(values * weights)
