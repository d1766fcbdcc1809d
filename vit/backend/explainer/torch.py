"""Attention weights and gradients of images in PyTorch.

Siblings: `vit/backend/explainer/tensorflow.py` and `vit/backend/explainer/mindspore.py` define the same names.
Legend: B batch, L blocks, N tokens, D width, H heads.
"""
import numpy as np
import torch

from vit.backend.torch import matmul


class Explainer:
    """A model whose inside is looked at.

    Args:
        model: A script's ViT.
    """

    def __init__(self, model):
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = model.eval().to(self.device)

    def logits(self, images):
        """From normalized images in numpy [B, S, S, C] to logits in numpy [B, classes]."""
        with torch.inference_mode():
            return self.model(self.tensor(images)).cpu().numpy()

    def attention(self, images):
        """From normalized images in numpy [B, S, S, C] to attention weights in numpy [B, L, H, N, N]."""
        with torch.inference_mode():
            entering = self.model.stages(self.tensor(images))[:-3:2]  # what comes into each block
            return np.stack([self.weights(block, x).cpu().numpy()
                             for block, x in zip(self.model.blocks, entering, strict=True)], axis=1)

    def weights(self, block, x):
        """The attention weights of a block: computed again, for a fused attention keeps none."""
        attn = block.attn
        N, D, H = x.shape[1], attn.width, attn.heads
        x = attn.qkv(block.norm1(x) if block.pre else x).reshape(-1, N, 3, H, D // H)
        q, k, _ = x.permute(2, 0, 3, 1, 4)  # each B, H, N, D/H
        return torch.softmax(matmul(q * attn.scale, k, attn.products, transpose_b=True), dim=-1)  # B, H, N, N

    def gradient(self, images, classes):
        """From normalized images [B, S, S, C] and a class of each [B] to the gradient of its logit, all in numpy."""
        x, one = self.tensor(images).requires_grad_(), torch.tensor(classes, device=self.device)
        own = self.model(x).gather(1, one[:, None]).sum()
        return torch.autograd.grad(own, x)[0].permute(0, 2, 3, 1).cpu().numpy()

    def tensor(self, images):
        """Images [B, S, S, C] as the model takes them."""
        return torch.tensor(images, device=self.device).permute(0, 3, 1, 2)
