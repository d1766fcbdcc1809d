"""Prediction in PyTorch.

Siblings: `vit/backend/predictor/tensorflow.py` and `vit/backend/predictor/mindspore.py` define the same names.
"""
import torch


class Predictor:
    """A model that only predicts, on the device that there is.

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

    def features(self, images):
        """From normalized images in numpy [B, S, S, C] to what the head is given, in numpy [B, D]."""
        with torch.inference_mode():
            return self.model.stages(self.tensor(images))[-2].cpu().numpy()

    def tensor(self, images):
        """Images as the model takes them."""
        return torch.tensor(images, device=self.device).permute(0, 3, 1, 2)
