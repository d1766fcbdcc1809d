"""Checkpoints: stop a training anywhere, and go on exactly, in any of the three frameworks."""
from vit.checkpoints.inventory import checkpoint_name, describe, list_checkpoints, newest, prune, set_aside
from vit.checkpoints.serialization import Checkpoint, load, save

__all__ = ["Checkpoint", "checkpoint_name", "describe", "list_checkpoints", "load", "newest", "prune", "save",
           "set_aside"]
