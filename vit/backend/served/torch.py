"""Pixels to probabilities in PyTorch.

Siblings: `vit/backend/served/tensorflow.py` and `vit/backend/served/mindspore.py` define the same names.
"""
import torch
from torch import nn


class Served(nn.Module):
    """A model with what comes before and after it: from uint8 [B, S, S, C] to probabilities [B, classes].

    Args:
        model: A script's ViT.
        scale: What pixels are multiplied by, float32 [C].
        shift: What is added then, float32 [C].
    """

    def __init__(self, model, scale, shift):
        super().__init__()
        self.model = model
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("shift", torch.tensor(shift))

    def forward(self, images):
        x = images.to(torch.float32) * self.scale + self.shift
        return torch.softmax(self.model(x.permute(0, 3, 1, 2)), dim=-1)
