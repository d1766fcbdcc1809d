"""Checkpoints: stop a training anywhere, and go on exactly, in any of the three frameworks."""
from vit.checkpoints.inventory import describe, list_checkpoints, newest, prune, set_aside
from vit.checkpoints.naming import checkpoint_name, run_folder
from vit.checkpoints.serialization import Checkpoint, load, save
from vit.checkpoints.trace_state import restore

__all__ = ["Checkpoint", "checkpoint_name", "describe", "list_checkpoints", "load", "newest", "prune", "restore",
           "run_folder", "save", "set_aside"]
