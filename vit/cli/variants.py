"""`python -m vit list`: the models that every script can be asked for."""
import argparse

from vit import terminal
from vit.model import summary


def add_parser(commands) -> None:
    """Add the command."""
    parser = commands.add_parser("list", help="the variants: parameters, FLOPs, input size",
                                 description=f"The variants that every script takes. {summary.COUNTED}")
    parser.set_defaults(run=_run)


def _run(_: argparse.Namespace) -> int:
    print(summary.table(terminal.width()))
    return 0
