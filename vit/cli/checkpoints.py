"""`python -m vit checkpoints`: what a run has saved."""
import argparse

from vit.checkpoints import describe


def add_parser(commands) -> None:
    """Add the command."""
    parser = commands.add_parser("checkpoints", help="what is in a run's checkpoints, and whether they are whole",
                                 description="List a run's checkpoints, each with its step and whether it is whole.")
    parser.add_argument("folder", metavar="DIR", help="a run's --model_dir, or its folder of checkpoints")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    print(describe(options.folder))
    return 0
