"""Checkpoints: stop a training anywhere, and go on exactly, in any of the three frameworks."""
from vit.checkpoints.file import Checkpoint, load, save
from vit.checkpoints.folder import checkpoints, describe, newest, set_aside
from vit.checkpoints.folder import name as checkpoint_name
from vit.training.traces.checkpoint import Access, check_saving, saver

__all__ = ["Access", "Checkpoint", "check_saving", "checkpoint_name", "checkpoints", "describe", "load",
           "newest", "save", "saver", "set_aside"]
