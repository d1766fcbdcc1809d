"""What every container is read into: tensors that are known by name, type and shape before any of them is loaded."""
import contextlib
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
import numpy as np

from vit.errors import UserError, one_line

# A file of weights is about as large as its tensors. One that claims much more, or this many names, is no such file.
MOST_NAMES = 20_000
MOST_HEADER = 8 << 20
_MOST_TIMES, _ALLOWANCE = 8, 16 << 20
FLOATS = ("float64", "float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Tensor:
    """A tensor that is not loaded yet: its NumPy type by name, its shape, and how to load it."""
    dtype: str
    shape: tuple[int, ...]
    load: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes once it is loaded."""
        return math.prod(self.shape) * (np.dtype(ml_dtypes.bfloat16) if self.dtype == "bfloat16"
                                        else np.dtype(self.dtype)).itemsize


@dataclass
class Source:
    """An opened file of weights.

    Args:
        path: The file.
        container: What the file is, in words.
        tensors: By their own names.
        spec: This project's manifest, where the file carries one (JSON).
        settings: The `config.json` beside a Hugging Face file.
        notes: What a reader of the report should know about the file.
        metadata: Text that a safetensors file carries.
    """
    path: Path
    container: str
    tensors: dict[str, Tensor]
    spec: str | None = None
    settings: dict | None = None
    notes: list[str] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.tensors) > MOST_NAMES:
            raise UserError(f"{self.path}: holds {len(self.tensors):,} names, which no ViT has")
        claimed = sum(tensor.nbytes for tensor in self.tensors.values())
        if claimed > most_bytes(self.path):
            raise UserError(f"{self.path}: {os.path.getsize(self.path):,} bytes that claim to hold tensors of "
                            f"{claimed:,} bytes")


def most_bytes(path: Path) -> int:
    """What the tensors of a file may take at most; archives can be compressed, but random numbers hardly are."""
    return _MOST_TIMES * os.path.getsize(path) + _ALLOWANCE


def shown(names, most: int = 6) -> str:
    """Names on one line, whatever they hold: the first few, shortened, and how many more there are."""
    names = [name if name.isprintable() else ascii(name) for name in map(str, names)]
    names = [f"{name[:77]}..." if len(name) > 80 else name for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def twice(names) -> list[str]:
    """The names that are there more than once."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


@contextlib.contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Whatever a library raises about a damaged file becomes one line about that file.

    Raises:
        UserError: In place of any other exception.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # libraries raise a dozen types on damaged input, some of them bare Exception
        raise UserError(f"{path}: not a whole {what} ({one_line(error)})") from None
