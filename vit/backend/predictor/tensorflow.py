"""Prediction in TensorFlow.

Siblings: `vit/backend/predictor/torch.py` and `vit/backend/predictor/mindspore.py` define the same names.
"""
import fe_compat

tf = fe_compat.legacy_tensorflow()


class Predictor:
    """A model that only predicts, on the device that there is.

    Args:
        model: A script's ViT.
    """

    def __init__(self, model):
        self.model = tf.function(model)

    def logits(self, images):
        """From normalized images in numpy [B, S, S, C] to logits in numpy [B, classes]."""
        return self.model(tf.constant(images)).numpy()
