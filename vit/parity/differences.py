"""What two backends computed, side by side: rows of differences, and the first that is over its bar.

A difference is relative to the largest value of what is compared: max|a - b| / max|b|.
"""
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Row:
    """One thing compared.

    Args:
        name: A stage, a parameter, or "loss of step 7".
        max_abs: Largest absolute difference.
        relative: The same over the largest absolute value of the second backend.
        bar: What it must not exceed.
    """
    name: str
    max_abs: float
    relative: float
    bar: float

    @property
    def over(self) -> bool:
        """Whether it differs too much; something that is not a number does."""
        return not self.relative <= self.bar

    @property
    def location(self) -> str:
        """Where in the model it is: block, half and parameter in words."""
        parts = self.name.split(".")
        if parts[0] != "blocks":
            return self.name
        half = {"attn": "attention half", "norm1": "attention half", "mlp": "MLP half", "norm2": "MLP half"}[parts[2]]
        parameter = ".".join(parts[2:])
        return f"block {parts[1]}, {half}" + ("" if parameter in ("attn", "mlp") else f", {parameter}")


def row(name: str, a: np.ndarray, b: np.ndarray, bar: float) -> Row:
    """Compare two arrays of one shape.

    Raises:
        ValueError: The shapes differ.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"{name}: {a.shape} against {b.shape}")
    difference, size = np.abs(a - b).max(), np.abs(b).max()
    return Row(name, float(difference), float(difference / size if size else difference), bar)


def report(rows: list[Row]) -> str:
    """The rows as a table; the first one over its bar is marked, and named below."""
    first = next((line for line in rows if line.over), None)
    width = max(len(line.name) for line in rows)
    lines = [f"{'':2}{'':{width}}  {'max abs':>9}  {'relative':>9}"]
    lines += [f"{'>' if line is first else '':2}{line.name:{width}}  {line.max_abs:9.1e}  {line.relative:9.1e}"
              for line in rows]
    worst = max(rows, key=lambda line: np.inf if np.isnan(line.relative) else line.relative)
    lines.append(f"the same: worst relative difference {worst.relative:.1e} ({worst.location}), bar {worst.bar:.0e}"
                 if first is None else
                 f"DIFFERENT: first at {first.location}, relative difference {first.relative:.1e}, "
                 f"bar {first.bar:.0e}; {sum(line.over for line in rows)} of {len(rows)} over it")
    return "\n".join(lines)
