"""The images that a person names on a command line."""
import glob
from collections.abc import Iterator
from pathlib import Path

from vit.data import image_folder
from vit.errors import UserError


def find(given: list[str]) -> Iterator[Path]:
    """Give the images that are named, of folders those that end as images do, each in the order of their names.

    Args:
        given: Files, folders, and patterns such as "a/*.png".

    Raises:
        UserError: There is none of a name.
    """
    for name in given:
        path = Path(name)
        if path.is_dir():
            endings = image_folder.ENDINGS
            found = sorted(one for one in path.rglob("*") if one.suffix.lower() in endings and one.is_file())
            if not found:
                raise UserError(f"{name}: holds no image; images end in {', '.join(endings)}")
        else:
            # A file may be called what is a pattern too.
            found = [path] if path.exists() or not glob.has_magic(name) else sorted(map(Path, glob.glob(name)))
            if not found:
                raise UserError(f"{name}: no file is called so")
        yield from found
