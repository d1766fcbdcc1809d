"""Pixels to probabilities in TensorFlow.

Siblings: `vit/backend/served/torch.py` and `vit/backend/served/mindspore.py` define the same names.
"""
import fe_compat

tf = fe_compat.legacy_tensorflow()


class Served(tf.Module):
    """A model with what comes before and after it: from uint8 [B, S, S, C] to probabilities [B, classes].

    Args:
        model: A script's ViT.
        scale: What pixels are multiplied by, float32 [C].
        shift: What is added then, float32 [C].
    """

    def __init__(self, model, scale, shift):
        super().__init__()
        self.model = model
        self.scale = tf.constant(scale)
        self.shift = tf.constant(shift)

    def __call__(self, images):
        x = tf.cast(images, tf.float32) * self.scale + self.shift
        return tf.nn.softmax(self.model(x))
