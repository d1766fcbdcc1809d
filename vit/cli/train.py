"""The command line of the three scripts, made of the fields of `RunOptions` and `Recipe`."""
import argparse
import dataclasses
import sys
from types import ModuleType

from vit import start
from vit.aliases import names_of
from vit.cli.endings import Parser, report_errors
from vit.cli.help import Version
from vit.errors import UserError
from vit.fields import first_sentence, kinds
from vit.training import recipe_file
from vit.training.options import RunOptions
from vit.training.recipe import Recipe

_GROUPS = {
    "recipe": "What a training is. All fields and what they mean: python -m vit recipe fields",
    "data": None, "model": None, "training": None, "scale": "Precision, devices, workers, memory.", "saving": None,
    "output": None,
}


def main(script: ModuleType, arguments: list[str] | None = None) -> None:
    """Parse a script's flags and run it; bad input ends in one line on stderr and exit status 2.

    Args:
        script: The script's module: its docstring, `fastestimator_run` and `backend.DEVICE_TARGETS`.
        arguments: The command line; None is the process's own.
    """
    start.imported()
    flags = parser(script.__doc__, script.backend.DEVICE_TARGETS)
    status = report_errors(lambda: _run(flags, script, arguments))
    start.ended()
    if status:
        sys.exit(status)


def _run(flags: Parser, script: ModuleType, arguments: list[str] | None) -> None:
    options = vars(flags.parse_args(arguments))
    settings = recipe_file.settings(options.pop("set", ()))
    if twice := sorted(set(settings) & set(options)):
        raise UserError(f"{twice[0]} is given both by --set and by another flag: leave one out")
    script.fastestimator_run(**options, **settings)


def parser(description: str | None, device_targets: tuple[str, ...] = ()) -> Parser:
    """Make the parser of a script's flags. Its result holds what was given, and no defaults.

    Args:
        description: What `--help` begins with; None where Python has no docstrings.
        device_targets: What `--device_target` may name; without any there is no such flag.
    """
    flags = Parser(description=(description or "").partition("\n\nLegend:")[0], usage="%(prog)s [--FLAG VALUE ...]")
    flags.add_argument("--version", action=Version)
    groups = {name: flags.add_argument_group(name, text) for name, text in _GROUPS.items()}
    for field in (*dataclasses.fields(Recipe), *dataclasses.fields(RunOptions)):
        if field.metadata["flag"] and (device_targets or field.name != "device_target"):
            _add(groups[field.metadata["flag"]], field, device_targets)
    groups["recipe"].add_argument(
        "--set", action="append", default=argparse.SUPPRESS, metavar="FIELD=VALUE", help="Set any field of the recipe, "
        "also several times")
    flags.elsewhere = {f"--{name}": f"--set {field}=VALUE" for name, field in names_of(Recipe).items()}
    return flags


def _add(group, field: dataclasses.Field, device_targets: tuple[str, ...]) -> None:
    """Add a field's flag to a group, and a hidden one for each of its old names."""
    allowed, about = kinds(field.type), field.metadata
    choices = device_targets if field.name == "device_target" else about["choices"]
    line = first_sentence(about["text"])
    if choices and len(choices) > 1:
        line += f". One of {', '.join(choices)}"
    if not (field.default is None or field.default is False or field.default == ()):
        line += f" (default: {field.default})"
    if bool in allowed:
        how = {"action": "store_true"}
    elif tuple in allowed:
        how = {"action": "append", "metavar": about["metavar"]}
    else:
        number = int if int in allowed else float
        kind, letter = (number, "N" if number is int else "R") if number in allowed else (str, "NAME")
        how = {"type": _steps if {int, str} <= set(allowed) else kind, "metavar": about["metavar"] or letter}
    group.add_argument(f"--{field.name}", default=argparse.SUPPRESS, help=line.replace("%", "%%"), **how)
    for name in about["aliases"]:
        group.add_argument(f"--{name}", default=argparse.SUPPRESS, help=argparse.SUPPRESS, **how)


def _steps(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text
