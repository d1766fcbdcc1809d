"""Recipes as YAML: a file names the fields that differ from the defaults, and what is wrong with it is one line."""
import os
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import Field, fields
from pathlib import Path

import yaml

from vit.errors import UserError, one_line
from vit.fields import takes
from vit.files.kinds import check_file
from vit.model.config import VARIANTS
from vit.training.recipe import Recipe
from vit.training.recipe_paths import find_recipe

FIELDS = tuple(field.name for field in fields(Recipe))
_OPEN_FILES = ("/dev/fd/", "/dev/stdin")  # `--recipe <(sed ...)` is a pipe that somebody writes into
_MAX_BYTES = 1 << 20  # for which the YAML parser may take 400 MB, and 40 seconds


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which takes no key twice and no aliases, and numbers as everybody writes them.

    In YAML 1.1 `1e-3` is a word, `010` is 8 and `1:30` is 90; here the first two are numbers, and the last is a word.
    """

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):  # a few lines of them can stand for gigabytes
            raise yaml.composer.ComposerError(None, None, "a recipe takes no aliases", self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            name = getattr(key, "value", None)
            if isinstance(name, str) and name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {name!r} comes twice", key.start_mark)
            seen.add(name if isinstance(name, str) else None)
        return super().construct_mapping(node, deep)


_NUMBERS = {  # a whole number of more digits is a word: nobody means it, and Python's `int` may not read it
    "tag:yaml.org,2002:int": r"[-+]?\d{1,400}$",
    "tag:yaml.org,2002:float": r"([-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?|[-+]?\.(?i:inf)|\.(?i:nan))$",
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag not in (*_NUMBERS, "tag:yaml.org,2002:timestamp")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()}
for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), list("-+.0123456789"))
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))


def build(source: str | os.PathLike | Mapping | Recipe | None = None, uses_variant: bool = True, **changes) -> Recipe:
    """Build a recipe from a file (or a dict, or a recipe), from named fields, or from both: then the fields override.

    Args:
        source: A YAML file or the name of a shipped recipe, a dict of fields or a recipe; None for the defaults.
        uses_variant: Whether the variant is the model, so that the image size must fit it; else a file's model is.
        changes: Fields of `Recipe`, by today's names or older ones.

    Raises:
        UserError: The file cannot be read or is no recipe, or a field is unknown or impossible.
    """
    given = {}
    if isinstance(source, str | os.PathLike):
        source = find_recipe(source)
        read = _read(source)
        try:
            given = Recipe.renamed(read)
            _checked(given, uses_variant)
        except ValueError as error:
            raise UserError(f"{source}: {error}") from None
    elif source is not None:
        given = source.to_dict() if isinstance(source, Recipe) else Recipe.renamed(source)
    try:
        return _checked({**given, **Recipe.renamed(changes)}, uses_variant)
    except ValueError as error:
        raise UserError(str(error)) from None


def settings(texts: Iterable[str], flag: str = "--set") -> dict[str, object]:
    """Read a flag's FIELD=VALUE, given any number of times; a value is read as YAML.

    Args:
        texts: What was given. The last one of a field counts.
        flag: Its name, for messages.

    Returns:
        Values by the names that `Recipe` has for its fields today.

    Raises:
        UserError: A text is something else, or names no field, or one field is given by two names.
    """
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"{flag} takes FIELD=VALUE, not {text!r}")
        _check_size(len(value), f"{flag} {name[:100]}")
        values[name] = _parse(value, f"{flag} {text}")
    return Recipe.renamed(values)


def dump(recipe: Recipe) -> str:
    """Write every field of a recipe as YAML, one a line, in the order in which `Recipe` declares them."""
    return yaml.safe_dump(recipe.to_dict(), sort_keys=False, default_flow_style=None)


def document(names: Iterable[str] = FIELDS, width: int = 80) -> str:
    """Write the default of each field as YAML, and above it, in comments, what it means and what it takes.

    Args:
        names: The fields, by today's names.
        width: Characters of a line, at most.
    """
    wanted = set(names)
    return "\n\n".join("\n".join(_commented(field, width)) for field in fields(Recipe) if field.name in wanted)


def _commented(field: Field, width: int) -> list[str]:
    lines = []
    for paragraph in [*field.metadata["text"].split("\n\n"), f"Takes {takes(field)}."]:
        if paragraph.startswith(" "):  # formulas keep their lines
            lines += ["", *paragraph.splitlines(), ""]
        else:
            lines += textwrap.wrap(paragraph, width - 2, break_on_hyphens=False, break_long_words=False)
    lines = [f"# {line}".rstrip() for line in lines]
    return [*lines, yaml.safe_dump({field.name: field.default}).strip()]


def _checked(given: dict, uses_variant: bool) -> Recipe:
    recipe = Recipe(**given)
    if uses_variant and recipe.image_size is not None:
        recipe.model(VARIANTS[recipe.variant].num_classes, recipe.image_size)
    return recipe


def _read(path: Path) -> dict:
    try:
        if not str(path).startswith(_OPEN_FILES):
            check_file(path)
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
        _check_size(len(data), str(path))
        text = data.decode()
    except OSError as error:
        raise UserError(f"{path}: recipe cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: recipe is not a text file (UTF-8)") from None
    given = _parse(text, str(path))
    if not isinstance(given, dict):
        found = "nothing" if given is None else type(given).__name__
        raise UserError(f"{path}: a recipe is lines of `field: value`, not {found}; it has {', '.join(FIELDS)}")
    return given


def _check_size(size: int, source: str) -> None:
    if size > _MAX_BYTES:
        raise UserError(f"{source}: more than 1 MiB, and a recipe is a few lines")


def _parse(text: str, source: str):
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UserError(f"{source}: {line}{' '.join(str(error.problem or error.context).split())}") from None
    except RecursionError:
        raise UserError(f"{source}: nested too deep for a recipe") from None
    except Exception as error:  # YAML's constructors of `!!bool x` and the like raise whatever comes
        raise UserError(f"{source}: not YAML ({one_line(error)})") from None
