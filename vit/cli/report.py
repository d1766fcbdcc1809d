"""`python -m vit report`: one page about one or several runs."""
import argparse
import contextlib
import os
import sys
from pathlib import Path

from vit.errors import UserError, printable
from vit.remote.address import is_address


def add_parser(commands) -> None:
    """Add the command."""
    parser = commands.add_parser("report", help="one HTML page about one or several runs", description=(
        "Write one HTML page about runs, which needs no other file and no network: their curves over each other, their "
        "results, what differs between their recipes, predictions, op graphs, and what they ran on. A run that was "
        "stopped is shown as far as its checkpoints tell."))
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's --model_dir; also in S3")
    parser.add_argument("--out", default="report.html", metavar="HTML",
                        help="the page to write (default: %(default)s); one that is there is replaced")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from vit.files.atomic import write_whole
    from vit.training import mirror
    from vit.training.report import folder
    from vit.training.report.page import document, past
    if is_address(options.out):
        raise UserError(f"{options.out}: the page is written to this machine; name a file for --out")
    out = Path(options.out)
    if out.suffix not in (".html", ".htm"):
        raise UserError(f"{out}: is to be a page; name a file that ends in .html for --out")
    if out.is_dir():
        raise UserError(f"{out}: is a folder; name a file for --out")
    with contextlib.ExitStack() as held:
        runs = []
        for name in {name if is_address(name) else os.path.realpath(name): name for name in options.runs}.values():
            place = held.enter_context(mirror.read(name)) if is_address(name) else name
            runs.append(past.read(place))
            if is_address(name):
                runs[-1].folder, runs[-1].name = name, printable(name.rstrip("/").rpartition("/")[2])
    for run in runs:
        for note in run.notes:
            print(printable(f"note: {run.folder}: {note}"), file=sys.stderr)
    content = document.write(runs).encode()
    folder.probe(out.parent, "out")
    write_whole(out, content)
    print(printable(f"{out}: {len(runs)} run{'s' * (len(runs) > 1)}, {len(content) / 1e6:.1f} MB; for any browser"))
    return 0
