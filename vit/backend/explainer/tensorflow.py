"""Attention weights and gradients of images in TensorFlow.

Siblings: `vit/backend/explainer/torch.py` and `vit/backend/explainer/mindspore.py` define the same names.
Legend: B batch, L blocks, N tokens, D width, H heads.
"""
import numpy as np

from vit.backend.tensorflow import matmul, tf


class Explainer:
    """A model whose inside is looked at.

    Args:
        model: A script's ViT.
    """

    def __init__(self, model):
        self.model = model

    def logits(self, images):
        """From normalized images in numpy [B, S, S, C] to logits in numpy [B, classes]."""
        return self.model(self.tensor(images)).numpy()

    def attention(self, images):
        """From normalized images in numpy [B, S, S, C] to attention weights in numpy [B, L, H, N, N]."""
        entering = self.model.stages(self.tensor(images))[:-3:2]  # what comes into each block
        return np.stack([self.weights(block, x).numpy()
                         for block, x in zip(self.model.blocks, entering, strict=True)], axis=1)

    def weights(self, block, x):
        """The attention weights of a block: computed again, for a fused attention keeps none."""
        attn = block.attn
        N, D, H = x.shape[1], attn.width, attn.heads
        x = tf.reshape(attn.qkv(block.norm1(x) if block.pre else x), (-1, N, 3, H, D // H))
        q, k, _ = tf.unstack(tf.transpose(x, (2, 0, 3, 1, 4)))  # each B, H, N, D/H
        return tf.nn.softmax(matmul(q * attn.scale, k, attn.products, transpose_b=True))  # B, H, N, N

    def gradient(self, images, classes):
        """From normalized images [B, S, S, C] and a class of each [B] to the gradient of its logit, all in numpy."""
        x = self.tensor(images)
        with tf.GradientTape() as tape:
            tape.watch(x)
            own = tf.reduce_sum(tf.gather(self.model(x), classes, axis=1, batch_dims=1))
        return tape.gradient(own, x).numpy()

    def tensor(self, images):
        """Images [B, S, S, C] as the model takes them."""
        return tf.constant(images)
