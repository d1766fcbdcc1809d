"""Entries that need no framework: `vit COMMAND`."""
import os

import numpy as np
import tqdm  # noqa: F401

from vit.cli import checkpoints, commands, compare, recipe, variants  # noqa: F401
from vit.cli import convert as converting  # noqa: F401
from vit.data import digits  # noqa: F401
from vit.files import canonical


def vit(arguments: list[str]) -> int:
    """Run `vit COMMAND`."""
    return commands.main(arguments)


def convert(arguments: list[str]) -> int:
    """Run `vit convert SRC DST ...`; what it wrote as this project's own format must be whole."""
    status = commands.main(["convert", *arguments])
    if status == 0 and os.path.isfile(arguments[1]) and "--to" not in arguments:
        weights, _ = canonical.load(arguments[1])
        assert all(np.isfinite(value).all() for value in weights.values())
    return status
