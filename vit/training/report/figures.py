"""Text in the project's figures: names that users gave, in any script, as they stand."""
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

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
