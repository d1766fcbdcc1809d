"""Checkpoints: stop a training anywhere, and go on exactly, in any of the three frameworks."""
from vit.checkpoints.file import Checkpoint, load, save
from vit.checkpoints.folder import checkpoints, describe, newest

__all__ = ["Checkpoint", "checkpoints", "describe", "load", "newest", "save"]
