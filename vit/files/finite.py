"""Whether weights are numbers: those of a training that diverged are not, and no reader takes them."""
import os
from collections.abc import Mapping

import numpy as np

from vit.errors import UserError
from vit.files.untrusted import listed


def not_finite(weights: Mapping[str, np.ndarray]) -> list[str]:
    """List the tensors in which a value is NaN or infinite, by name."""
    return [name for name, value in weights.items() if not np.isfinite(value).all()]


def check_finite(path: str | os.PathLike, weights: Mapping[str, np.ndarray]) -> None:
    """Refuse to write weights that no reader would take.

    Args:
        path: The file that they were to go to, for the message.
        weights: The weights.

    Raises:
        UserError: A value is NaN or infinite; the message names the tensors.
    """
    bad = not_finite(weights)
    if bad:
        raise UserError(f"{path}: not written, since {len(bad)} of its {len(weights)} tensors hold values that are not "
                        f"finite: {listed(bad, 3)}")
