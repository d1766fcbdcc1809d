"""What the project's figures share: grids of images, and names that users gave, in any script, as they stand."""
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vit.files.atomic import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# For the letters that matplotlib's own font lacks, if installed: Linux's, Windows's and macOS's.
FONTS = ("Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Micro Hei", "Droid Sans Fallback", "Noto Sans Devanagari",
         "Microsoft YaHei", "Malgun Gothic", "Nirmala UI", "Arial Unicode MS")


def text_options() -> dict:
    """What matplotlib is told about a text that has users' names: its fonts, and that a dollar is a dollar."""
    from matplotlib import font_manager
    installed = set(FONTS) & set(font_manager.get_font_names())
    return {"fontfamily": ["DejaVu Sans", *sorted(installed, key=FONTS.index)], "parse_math": False}


def short(name: str) -> str:
    """Cut a name to what fits above an image or beside a row."""
    return name if len(name) <= 20 else f"{name[:19]}…"


def grid(images: Sequence[np.ndarray], titles: Sequence[str], colors: Sequence[str], columns: int,
         height: float) -> "Figure":
    """Draw images in rows, each under its title.

    Args:
        images: Of each [h, w, 3], uint8 or 0 to 1.
        titles: Above each.
        colors: Of each title.
        columns: Images in a row, at most.
        height: Of a row with its titles, inches; it is 2 wide for each image.
    """
    from matplotlib.figure import Figure
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure, options = Figure(figsize=(2 * columns, height * rows), layout="constrained"), text_options()
    for axis in (axes := figure.subplots(rows, columns, squeeze=False)).flat:
        axis.set_axis_off()
    for axis, image, title, color in zip(axes.flat, images, titles, colors, strict=False):
        axis.imshow(image, interpolation="nearest" if len(image) < 100 else None)
        axis.set_title(title, color=color, fontsize=10, **options)
    return figure


def save(figure: "Figure", path: Path, dpi: int) -> None:
    """Write a figure as PNG; a note says so if no installed font has all of its letters."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=dpi, format="png")
    write_whole(path, drawn.getvalue())
    lacking = [warning for warning in caught if "missing from" in str(warning.message)]
    for warning in caught:
        if warning not in lacking:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if lacking:
        print(f"note: {path}: no installed font has all letters of the names in it, which show as boxes; one that "
              "has Chinese, Japanese and Korean is Debian's fonts-noto-cjk", flush=True)
