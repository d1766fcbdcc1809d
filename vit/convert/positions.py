"""Position embeddings: which of them is the class token's, and how the others are resized."""
import math

import numpy as np

from vit.errors import UserError


def grid_of(count: int, class_token: bool, grid: tuple[int, int] | None = None) -> tuple[int, int, bool]:
    """What `count` positions are.

    Args:
        count: Positions in the file.
        class_token: Whether the file has a class token. Without one, all of them are patches' (196 are 14 x 14).
        grid: Rows and columns, where they are known.

    Returns:
        Rows, columns, and whether the first position is the class token's.

    Raises:
        UserError: The count is neither that of the grid nor of a square one.
    """
    for own in ((True, False) if class_token else (False, )):
        patches = count - own
        rows, columns = grid or (math.isqrt(max(patches, 0)), ) * 2
        if rows * columns == patches > 0:
            return rows, columns, own
    token = "with" if class_token else "without"
    if grid:
        raise UserError(f"{count} positions {token} a class token are no grid of {grid[0]} x {grid[1]}")
    raise UserError(f"{count} positions {token} a class token are no square grid, and the file does not say which; "
                    "give its rows and columns with --grid")


def resize(values: np.ndarray, grid: tuple[int, int], side: int) -> np.ndarray:
    """Resize a grid of embeddings by bicubic interpolation.

    The convention is that of `torch.nn.functional.interpolate(mode="bicubic", align_corners=False)`, which DeiT, MAE
    and Hugging Face use: Keys' kernel (1981) with a = -0.75, pixel centres at halves, edges repeated, no smoothing
    when it shrinks. (OpenCV's kernel is the same but rounded; Pillow's has a = -0.5 and smooths; SciPy's is a spline.)

    Args:
        values: One embedding per cell, row by row [rows * columns, D].
        grid: Rows and columns.
        side: Rows, and columns, of the result.

    Returns:
        [side * side, D], computed in float64, of the type of `values`.
    """
    cells = values.astype(np.float64).reshape(*grid, -1)
    down, across = _weights(grid[0], side), _weights(grid[1], side)
    cells = np.einsum("yr,rcd->ycd", down, cells)
    cells = np.einsum("xc,ycd->yxd", across, cells)
    return cells.reshape(side * side, -1).astype(values.dtype)


def _weights(old: int, new: int) -> np.ndarray:
    """How much of each old cell is in each new one, along one axis [new, old]."""
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
