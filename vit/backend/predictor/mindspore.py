"""Prediction in MindSpore.

Siblings: `vit/backend/predictor/torch.py` and `vit/backend/predictor/tensorflow.py` define the same names.
"""
import mindspore as ms


class Predictor:
    """A model that only predicts, on the device that there is.

    Args:
        model: A script's ViT.
    """

    def __init__(self, model):
        model.set_train(False)

        @ms.jit
        def forward(x):
            return model(x)

        @ms.jit
        def pooled(x):
            return model.stages(x)[-2]

        self.model, self.pooled = forward, pooled

    def logits(self, images):
        """From normalized images in numpy [B, S, S, C] to logits in numpy [B, classes]."""
        return self.model(self.tensor(images)).asnumpy()

    def features(self, images):
        """From normalized images in numpy [B, S, S, C] to what the head is given, in numpy [B, D]."""
        return self.pooled(self.tensor(images)).asnumpy()

    def tensor(self, images):
        """Images as the model takes them."""
        return ms.Tensor(images).permute(0, 3, 1, 2)
