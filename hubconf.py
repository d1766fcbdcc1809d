"""Entry points of `torch.hub.load(DIR, NAME, source="local")`, where DIR is this checkout: the variants, and `vit`.

    torch.hub.load(".", "vit_b_16_224", source="local")                   # initial weights
    torch.hub.load(".", "vit", "runs/demo-torch", source="local")         # a file's, or a run's
"""
import sys
from pathlib import Path

sys.path += [str(Path(__file__).parent / name) for name in (".", "packages/fe_compat")]

from vit.hub import from_pretrained as _from_pretrained
from vit.hub import list_models as _list_models

dependencies = ["torch"]


def vit(model):
    """Make the model of a file, a folder, an address or a variant, as `vit.hub.from_pretrained` does."""
    return _from_pretrained(model, "torch")


def _entry(name):
    def make():
        return _from_pretrained(name, "torch")

    make.__doc__ = f"Make `{name}`, with seed 0's initial weights."
    return make


globals().update({name: _entry(name) for name in _list_models()})
