"""The flags of the three scripts and of `vit`, and command lines of theirs that are read and not run."""
import argparse
import importlib

from vit.cli import train
from vit.cli.commands import COMMANDS
from vit.cli.endings import Parser
from vit.training import recipe_file
from vit.training.options import split


def script() -> Parser:
    """The parser of a script that takes every flag: MindSpore's."""
    return train.parser("", ("CPU", "GPU", "Ascend"))


def tool() -> Parser:
    """The parser of `vit`."""
    parser = Parser(prog="vit")
    commands = parser.add_subparsers(required=True, dest="command")
    for command in COMMANDS:
        importlib.import_module(f"vit.cli.{command}").add_parser(commands)
    return parser


def known_flags() -> set[str]:
    """Every flag, of the scripts and of all commands."""
    def of(parser: argparse.ArgumentParser) -> set[str]:
        flags = set(parser._option_string_actions)
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                flags |= {flag for part in action.choices.values() for flag in of(part)}
        return flags

    return of(script()) | of(tool())


def read_script(arguments: list[str]) -> None:
    """Hold a script's arguments to its flags, their values and the recipe that they name."""
    given = vars(script().parse_args(arguments))
    given |= recipe_file.settings(given.pop("set", ()))
    options, fields = split(given)
    recipe_file.build(options.recipe, **fields)


def read_tool(arguments: list[str]) -> None:
    """Hold the arguments of `vit` to its commands and their flags."""
    tool().parse_args(arguments)
