"""What every reader of a file that may be damaged or hostile shares: limits, and faults as one line about the file."""
import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator

from vit.errors import UserError, one_line

# A file of weights is about as large as its tensors. One that claims more than this, or more names, holds no ViT.
MAX_NAMES = 20_000
MAX_HEADER_BYTES = 8 << 20
_MAX_EXPANSION, _ALLOWED_BYTES = 8, 16 << 20


@contextlib.contextmanager
def reading(path: str | os.PathLike, kind: str) -> Iterator[None]:
    """Turn whatever a library raises about a damaged file into one line about that file.

    Args:
        path: The file.
        kind: What it should be, in words, such as "zip archive".

    Raises:
        UserError: In the place of any other exception.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # libraries raise a dozen types on damaged input, some of them bare Exception
        raise UserError(f"{path}: not a whole {kind} ({one_line(error)})") from None


def max_tensor_bytes(path: str | os.PathLike) -> int:
    """Return how many bytes a file's tensors may take: archives are compressed, but random numbers hardly shrink."""
    return _MAX_EXPANSION * os.path.getsize(path) + _ALLOWED_BYTES


def listed(names: Iterable, most: int = 6) -> str:
    """Return names on one printable line: the first few, each shortened, and how many more there are."""
    names = [name if name.isprintable() else ascii(name) for name in map(str, names)]
    names = [f"{name[:77]}..." if len(name) > 80 else name for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def duplicates(names: Iterable[str]) -> list[str]:
    """Return the names that occur more than once, sorted."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def check_distinct(names: Iterable[str]) -> None:
    """Refuse two tensors of one name: a parser would silently drop one of them.

    Raises:
        ValueError: A name occurs more than once.
    """
    if doubled := duplicates(names):
        raise ValueError(f"twice: {listed(doubled)}")
