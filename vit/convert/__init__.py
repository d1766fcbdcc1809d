"""Read (`read`) and write (`write`) the ViT checkpoints of other projects.

A file or folder of timm, DeiT, MAE, Hugging Face (torch and TensorFlow), torchvision, Google's vision_transformer and
big_vision, MindCV or FastEstimator's apphub, or a run of this project (`runs`), becomes canonical weights with their
spec, and the other way round where that project can express the model. The model computes the same logits before and
after; a file for which that cannot be so is refused.
"""
from vit.convert.reader import read
from vit.convert.reporting import Report
from vit.convert.writer import FORMATS, write

__all__ = ["FORMATS", "Report", "read", "write"]
