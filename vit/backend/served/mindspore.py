"""Pixels to probabilities in MindSpore.

Siblings: `vit/backend/served/torch.py` and `vit/backend/served/tensorflow.py` define the same names.
"""
import mindspore as ms
from mindspore import nn, ops


class Served(nn.Cell):
    """A model with what comes before and after it: from uint8 [B, S, S, C] to probabilities [B, classes].

    Args:
        model: A script's ViT.
        scale: What pixels are multiplied by, float32 [C].
        shift: What is added then, float32 [C].
    """

    def __init__(self, model, scale, shift):
        super().__init__()
        self.model = model
        self.scale = ms.Tensor(scale)
        self.shift = ms.Tensor(shift)

    def construct(self, images):
        x = ops.cast(images, ms.float32) * self.scale + self.shift
        return ops.softmax(self.model(x.permute(0, 3, 1, 2)), -1)
