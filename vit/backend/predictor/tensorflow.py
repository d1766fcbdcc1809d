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
        # A second size of batches is traced as any size.
        self.model = tf.function(model, reduce_retracing=True)
        self.pooled = tf.function(lambda x: model.stages(x)[-2], reduce_retracing=True)

    def logits(self, images):
        """From normalized images in numpy [B, S, S, C] to logits in numpy [B, classes]."""
        return self.model(self.tensor(images)).numpy()

    def features(self, images):
        """From normalized images in numpy [B, S, S, C] to what the head is given, in numpy [B, D]."""
        return self.pooled(self.tensor(images)).numpy()

    def tensor(self, images):
        """Images as the model takes them."""
        return tf.constant(images)
