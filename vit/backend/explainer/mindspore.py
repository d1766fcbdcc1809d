"""Attention weights and gradients of images in MindSpore.

Siblings: `vit/backend/explainer/torch.py` and `vit/backend/explainer/tensorflow.py` define the same names.
Legend: B batch, L blocks, N tokens, D width, H heads.
"""
import mindspore as ms
import numpy as np
from mindspore import ops

from vit.backend.mindspore import softmax


class Explainer:
    """A model whose inside is looked at.

    Args:
        model: A script's ViT.
    """

    def __init__(self, model):
        self.model = model.set_train(False)

    def logits(self, images):
        """From normalized images in numpy [B, S, S, C] to logits in numpy [B, classes]."""
        return self.model(self.tensor(images)).asnumpy()

    def attention(self, images):
        """From normalized images in numpy [B, S, S, C] to attention weights in numpy [B, L, H, N, N]."""
        entering = self.model.stages(self.tensor(images))[:-3:2]  # what comes into each block
        return np.stack([self.weights(block, x).asnumpy()
                         for block, x in zip(self.model.blocks, entering, strict=True)], axis=1)

    def weights(self, block, x):
        """The attention weights of a block: computed again, for a fused attention keeps none."""
        attn = block.attn
        N, D, H = x.shape[1], attn.width, attn.heads
        x = attn.qkv(block.norm1(x) if block.pre else x).reshape(-1, N, 3, H, D // H)
        q, k, _ = ops.unstack(x.permute(2, 0, 3, 1, 4))  # each B, H, N, D/H
        return softmax(attn.score(q * attn.scale, k))  # B, H, N, N

    def gradient(self, images, classes):
        """From normalized images [B, S, S, C] and a class of each [B] to the gradient of its logit, all in numpy."""
        one = ms.Tensor(np.int32(classes))

        def own(x):
            return self.model(x).gather_elements(1, one[:, None]).sum()

        return ms.grad(own)(self.tensor(images)).permute(0, 2, 3, 1).asnumpy()

    def tensor(self, images):
        """Images [B, S, S, C] as the model takes them."""
        return ms.Tensor(images).permute(0, 3, 1, 2)
