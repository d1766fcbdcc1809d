"""Put the state of FastEstimator's traces back as a checkpoint has it, and nothing but state."""
import inspect
import os

import numpy as np

from vit.errors import UserError

_PLAIN = int | float | str | np.generic | None


def restore(trace: object, state: dict) -> None:
    """Set a trace's numbers to those of a checkpoint.

    A text is set only if it names a file in the folder that the trace itself saves into (BestModelSaver's best model):
    any other could make the trace read or write a file that nobody named.

    Args:
        trace: A trace, FastEstimator's own or a user's.
        state: Plain values by attribute. Attributes that the trace does not have yet may be among them.

    Raises:
        UserError: What is to be set is a method of the trace, or holds something else than a number.
    """
    for name, value in state.items():
        own = inspect.getattr_static(trace, name, None)
        if not isinstance(own, _PLAIN) or (isinstance(own, str) and not isinstance(value, str)):
            raise UserError(f"the checkpoint sets {name} of {type(trace).__name__} to {value!r}, and that is no number "
                            "there")
        if isinstance(value, str) and not _is_in(getattr(trace, "save_dir", None), value):
            continue
        setattr(trace, name, value)


def _is_in(folder: object, path: str) -> bool:
    """Whether a path is that of a file right in a folder."""
    return bool(folder) and os.path.normpath(os.path.dirname(path)) == os.path.normpath(os.fspath(folder))
