"""`python -m vit COMMAND`, or `vit COMMAND` once it is installed: tools around the three scripts."""
import importlib
import sys
from pathlib import Path

from vit import start
from vit.cli.endings import Parser, report_errors
from vit.cli.help import Version

# Modules beside this one, as --help lists them.
COMMANDS = ("evaluate", "predict", "explain", "export", "report", "serve", "compare", "convert", "variants", "recipe",
            "checkpoints", "shards", "launch")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    return report_errors(lambda: _run(arguments))


def _run(arguments: list[str] | None) -> int:
    name = "vit" if Path(sys.argv[0]).name == "vit" else "python -m vit"
    parser = Parser(prog=name, description=__doc__)
    parser.add_argument("--version", action=Version)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for command in COMMANDS:
        importlib.import_module(f"vit.cli.{command}").add_parser(commands)
    start.imported()
    options = parser.parse_args(arguments)
    return options.run(options)
