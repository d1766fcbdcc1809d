"""Where the recipes that the project ships lie: beside the code once it is installed, in `recipes/` in the checkout."""
import os
from pathlib import Path

from vit.errors import UserError

_PACKAGE = Path(__file__).resolve().parent.parent
SHIPPED = _PACKAGE / "recipes" if (_PACKAGE / "recipes").is_dir() else _PACKAGE.parent / "recipes"


def find_recipe(name: str | os.PathLike) -> Path:
    """Find a recipe by its path, or one that the project ships by its bare name.

    Args:
        name: A path (`my/recipe.yaml`), which is returned as it is, or a name without a folder: that of a file in the
            current folder, or else of a shipped recipe, with or without `.yaml` (`small_data`).

    Returns:
        The path of the recipe's file.

    Raises:
        UserError: A bare name is neither.
    """
    path = Path(name)
    if path.name != os.fspath(name) or (path.exists() and not path.is_dir()):
        return path
    shipped = SHIPPED / (path.name if path.suffix else f"{path.name}.yaml")
    if shipped.is_file():
        return shipped
    raise UserError(f"{name}: there is no recipe of that name here, and the shipped ones are "
                    f"{', '.join(shipped_names())}")


def shipped_names() -> list[str]:
    """Return the bare names of the shipped recipes, sorted."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))
