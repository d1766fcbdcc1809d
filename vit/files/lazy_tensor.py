"""A tensor in an opened file: its type and shape are known, its values are not loaded yet."""
import math
from collections.abc import Callable
from dataclasses import dataclass

import ml_dtypes
import numpy as np

FLOAT_TYPES = ("float64", "float32", "float16", "bfloat16")


@dataclass(frozen=True)
class LazyTensor:
    """A tensor that is not loaded yet.

    Args:
        dtype: NumPy's name of its type, or "bfloat16".
        shape: Its shape.
        load: Reads its values from the file.
    """
    dtype: str
    shape: tuple[int, ...]
    load: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes once it is loaded."""
        return math.prod(self.shape) * self._numpy_dtype.itemsize

    @property
    def outline(self) -> np.ndarray:
        """An array of its type and shape that takes no memory; all of its values are 0."""
        return np.broadcast_to(np.zeros((), self._numpy_dtype), self.shape)

    @property
    def _numpy_dtype(self) -> np.dtype:
        return np.dtype(ml_dtypes.bfloat16 if self.dtype == "bfloat16" else self.dtype)
