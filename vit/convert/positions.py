"""Position embeddings: what grid they form, whether the class token has one, and how the grid is resized."""
import math
from typing import NamedTuple

import numpy as np

from vit.errors import UserError


class PositionGrid(NamedTuple):
    """What the position embeddings of a file are.

    Attributes:
        rows: Rows of patches.
        columns: Columns of patches.
        class_position: Whether the first position is the class token's.
    """
    rows: int
    columns: int
    class_position: bool


def grid_of(count: int, class_token: bool, grid: tuple[int, int] | None = None) -> PositionGrid:
    """Tell from their count what grid the positions of a file form.

    Args:
        count: Positions in the file.
        class_token: Whether the file has a class token. Without one, every position is a patch's (196 are 14 x 14).
        grid: Rows and columns, where they are known.

    Raises:
        UserError: The count fits neither the grid nor, where none is known, a square.
    """
    for own in ((True, False) if class_token else (False, )):
        patches = count - own
        rows, columns = grid or (math.isqrt(max(patches, 0)), ) * 2
        if rows * columns == patches > 0:
            return PositionGrid(rows, columns, own)
    token = "with" if class_token else "without"
    if grid:
        raise UserError(f"{count} positions {token} a class token are no grid of {grid[0]} x {grid[1]}")
    raise UserError(f"{count} positions {token} a class token are no square grid, and the file does not say which; "
                    "give its rows and columns with --grid")


def resize(values: np.ndarray, grid: tuple[int, int], size: int) -> np.ndarray:
    """Resize a grid of embeddings by bicubic interpolation.

    The convention is that of `torch.nn.functional.interpolate(mode="bicubic", align_corners=False)`, which DeiT, MAE
    and Hugging Face use: Keys' kernel (1981) with a = -0.75, pixel centres at halves, edges repeated, no smoothing
    when it shrinks. (OpenCV's kernel is the same but rounded; Pillow's has a = -0.5 and smooths; SciPy's is a spline.)

    Args:
        values: One embedding for each cell, row by row [rows * columns, D].
        grid: Rows and columns.
        size: Rows, and columns, of the result.

    Returns:
        [size * size, D] in the type of `values`; computed in float64.
    """
    cells = values.astype(np.float64).reshape(*grid, -1)
    down, across = _weights(grid[0], size), _weights(grid[1], size)
    cells = np.einsum("yr,rcd->ycd", down, cells)
    cells = np.einsum("xc,ycd->yxd", across, cells)
    return cells.reshape(size * size, -1).astype(values.dtype)


def _weights(old: int, new: int) -> np.ndarray:
    """The share of each old cell in each new one, along one axis [new, old]."""
    centre = (np.arange(new) + 0.5) * old / new - 0.5
    weights = np.zeros((new, old))
    for step in (-1, 0, 1, 2):
        cell = np.floor(centre).astype(int) + step
        np.add.at(weights, (np.arange(new), np.clip(cell, 0, old - 1)), _cubic(np.abs(centre - cell)))
    return weights


def _cubic(distance: np.ndarray, a: float = -0.75) -> np.ndarray:
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))
