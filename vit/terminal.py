"""What a terminal shows: lines that fit its window, and bold or dim words where it takes them."""
import os
import shutil
import sys
import textwrap
from collections.abc import Collection, Sequence
from typing import TextIO

_LEAST = 20  # columns that lines are made for, however small the window
_STYLES = {"bold": 1, "dim": 2}


def width(stream: TextIO | None = None) -> int | None:
    """Characters of a line that fit a window; None where lines may have any length: no terminal, or a dumb one.

    Args:
        stream: What is printed to; None is stdout.
    """
    stream = sys.stdout if stream is None else stream
    if not stream.isatty() or _is_dumb():
        return None
    try:
        columns = os.get_terminal_size(stream.fileno()).columns  # 0 where nobody has said
    except OSError:
        columns = 0
    return max(_LEAST, columns or shutil.get_terminal_size().columns)


def styled(text: str, style: str, stream: TextIO | None = None) -> str:
    """Make a text "bold" or "dim", unless what is printed to is no terminal, or knows or wants no such thing.

    Args:
        text: It, of one line.
        style: How.
        stream: What is printed to; None is stdout.
    """
    takes = (sys.stdout if stream is None else stream).isatty()
    if not takes or os.environ.get("NO_COLOR") or _is_dumb():  # no-color.org
        return text
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def _is_dumb() -> bool:
    """Whether the terminal can do no more than print lines."""
    return os.environ.get("TERM", "dumb") == "dumb"


def wrapped(text: str, columns: int | None, indent: str = "  ") -> str:
    """Break the lines of a text where a window ends, between words; a longer word stays whole, so it can be copied.

    Args:
        text: Lines.
        columns: The window's width, or None: then lines stay as they are.
        indent: What a line goes on with, below its begin.
    """
    if columns is None:
        return text
    lines = [textwrap.wrap(line, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
             or [""] for line in text.split("\n")]
    return "\n".join(line for part in lines for line in part)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], columns: int | None, left: Collection[str] = (),
          spare: Sequence[str] = ()) -> list[str]:
    """Lay out a table: each column is as wide as its widest cell, and two spaces from the next.

    Args:
        heads: The columns' heads.
        rows: Their cells.
        columns: The window's width, or None.
        left: Heads of columns whose cells begin below each other; those of others end so.
        spare: Heads of columns to leave out where lines are wider than the window, one after the other.

    Returns:
        Its lines; the first is that of the heads.
    """
    kept = list(range(len(heads)))
    sizes = [max(len(row[i]) for row in (heads, *rows)) for i in kept]
    for head in spare:
        if columns is None or sum(sizes[i] + 2 for i in kept) - 2 <= columns:
            break
        kept.remove(list(heads).index(head))
    return ["  ".join(f"{row[i]:{'<' if heads[i] in left else '>'}{sizes[i]}}" for i in kept).rstrip()
            for row in (heads, *rows)]
