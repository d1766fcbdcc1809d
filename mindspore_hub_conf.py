"""What MindSpore Hub asks of a repository: a function that makes its networks by name."""
import sys
from pathlib import Path

sys.path += [str(Path(__file__).parent / name) for name in (".", "packages/fe_compat", "packages/fe_mindspore")]

from vit.hub import from_pretrained


def create_network(name):
    """Make a variant, with seed 0's initial weights, or the model of a file, as `vit.hub.from_pretrained` does."""
    return from_pretrained(name, "ms")
