"""`python -m vit COMMAND`, or `vit COMMAND` once it is installed: tools around the three scripts."""
import os
import signal
import sys
from pathlib import Path

from vit.cli import checkpoints, compare, convert, recipe, variants
from vit.cli.endings import Parser, report_errors

COMMANDS = (compare, convert, variants, recipe, checkpoints)  # in the order of --help


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    name = "vit" if Path(sys.argv[0]).name == "vit" else "python -m vit"
    parser = Parser(prog=name, description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for command in COMMANDS:
        command.add_parser(commands)
    options = parser.parse_args(arguments)
    try:
        status = report_errors(lambda: options.run(options))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever reads the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains of it as it ends
        return 128 + signal.SIGPIPE
