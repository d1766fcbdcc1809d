"""`make fuzz`: all targets in turn, for some minutes; ends with a table, and with status 1 after a bad input.

The bad inputs, made as small as that went, lie in a folder that is named at the end.
"""
import argparse
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.campaign import TARGETS, Tally, explore, keep
from tests.fuzz.sandbox import Sandbox

_AT_ONCE = 40


def main() -> int:
    """Parse the flags, try inputs until the time is over, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, metavar="R", help="default: %(default)s")
    parser.add_argument("--targets", default=",".join(TARGETS), metavar="NAMES", help="default: %(default)s")
    parser.add_argument("--seed", type=int, metavar="N", help="chooses the inputs (default: others each time)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="folder for bad inputs (default: a new one)")
    options = parser.parse_args()
    seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    tallies = [Tally(name) for name in options.targets.split(",")]
    begin = time.monotonic()
    end, round_ = begin + 60 * options.minutes, 0
    folder = options.keep or Path(tempfile.mkdtemp(prefix="fuzz-bad-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {seed}", flush=True)
    with Sandbox() as sandbox:
        while time.monotonic() < end:
            for place, tally in enumerate(tallies):
                left = len(tallies) - place if not round_ else 1  # the first round shall reach them all
                until = min(end, time.monotonic() + (end - time.monotonic()) / left)
                before = set(tally.bad)
                explore(tally, sandbox, _AT_ONCE, seed + 1000 * round_ + place, until)
                for kind in tally.bad.keys() - before:
                    keep(folder, tally)
                    case, _, faults = tally.bad[kind]
                    print(f"bad: {' '.join(map(ascii, case.arguments))}: {'; '.join(faults)}"[:1000])
                print(f"{time.monotonic() - begin:5.0f} s  {tally.target}: {tally.tried} tried, {len(tally.bad)} bad",
                      flush=True)
            round_ += 1
    print(table(tallies))
    bad = any(tally.bad for tally in tallies)
    if bad:
        print(f"the bad inputs are in {folder}")
    elif options.keep is None:
        folder.rmdir()
    return int(bad)


def table(tallies: list[Tally]) -> str:
    """Lay out what came of the targets."""
    rows = [(tally.target, tally.tried, tally.taken, tally.refused, len(tally.bad)) for tally in tallies]
    rows.append(("all", *(sum(row[column] for row in rows) for column in range(1, 5))))
    head = f"{'target':12} {'inputs':>8} {'status 0':>9} {'status 2':>9} {'kinds of bad':>13}"
    return "\n".join([head, *(f"{name:12} {tried:8} {taken:9} {refused:9} {bad:13}"
                              for name, tried, taken, refused, bad in rows)])


if __name__ == "__main__":
    sys.exit(main())
