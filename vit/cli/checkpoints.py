"""`python -m vit checkpoints`: what a run has saved."""
import argparse

from vit import terminal
from vit.checkpoints import describe
from vit.remote.address import is_address


def add_parser(commands) -> None:
    """Add the command."""
    parser = commands.add_parser("checkpoints", help="what is in a run's checkpoints, and whether they are whole",
                                 description="List a run's checkpoints, each with its step and whether it is whole.")
    parser.add_argument("folder", metavar="DIR", help="a run's --model_dir, or its folder of checkpoints; also in S3")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if not is_address(options.folder):
        print(describe(options.folder, terminal.width()))
        return 0
    from vit.training import mirror
    with mirror.read(options.folder) as folder:
        print(describe(folder, terminal.width()))
    return 0
