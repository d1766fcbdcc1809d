"""What a masked autoencoder's decoder is held to, in TensorFlow.

Siblings: `vit/backend/autoencoder/torch.py` and `vit/backend/autoencoder/mindspore.py` define the same names.
"""
import fe_compat

from vit.model.config import PIXEL_NORM_EPS

tf = fe_compat.legacy_tensorflow()


def pixel_errors(x, pixels):
    """Mean squared errors [B, patches] of what is predicted of patches' pixels, each patch's normalized."""
    centred = pixels - tf.reduce_mean(pixels, axis=2, keepdims=True)
    targets = centred / tf.sqrt(tf.reduce_mean(tf.square(centred), axis=2, keepdims=True) + PIXEL_NORM_EPS)
    return tf.reduce_mean(tf.square(x - targets), axis=2)
