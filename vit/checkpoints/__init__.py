"""Checkpoints: stop a training anywhere, and go on exactly, in any of the three frameworks."""
from vit.checkpoints.file import Checkpoint, load, save
from vit.checkpoints.folder import checkpoints, describe, newest, prune, set_aside
from vit.checkpoints.folder import name as checkpoint_name

__all__ = ["Checkpoint", "checkpoint_name", "checkpoints", "describe", "load", "newest", "prune", "save", "set_aside"]
