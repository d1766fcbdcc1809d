"""Other projects' ViT checkpoints, read (`read`) and written (`write`).

From a file or folder of timm, DeiT, MAE, Hugging Face (torch and TensorFlow), torchvision, Google's vision_transformer
and big_vision, MindCV or FastEstimator's apphub to canonical weights and their spec, and back where that project can
express the model. A conversion gives the same logits as its source, or stops.
"""
from vit.convert.read import read
from vit.convert.report import Report
from vit.convert.write import FORMATS, write

__all__ = ["FORMATS", "Report", "read", "write"]
