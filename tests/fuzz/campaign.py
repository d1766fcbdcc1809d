"""Try a target's cases for a while, and keep the smallest input of each kind that ends badly."""
import contextlib
import json
import re
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.errors import Flaky

from tests.fuzz.case import Case, attempt
from tests.fuzz.sandbox import Outcome, Sandbox

TARGETS = ("recipes", "flags", "weights", "manifests", "checkpoints", "images", "shards", "cifar", "exports")
_SHRINK_SECONDS = 20.0


class _Bad(Exception):
    """An input ended badly; hypothesis looks for a smaller one that does so, too."""


class _Enough(BaseException):
    """The time for making a bad input smaller is over."""


@dataclass
class Tally:
    """What came of a target's inputs.

    Args:
        target: Its name.
        tried: Inputs.
        taken: Of these, with status 0.
        refused: Of these, with status 2.
        bad: The smallest bad input of each kind, with its outcome and its faults.
    """
    target: str
    tried: int = 0
    taken: int = 0
    refused: int = 0
    bad: dict[str, tuple[Case, Outcome, list[str]]] = field(default_factory=dict)


def cases(target: str):
    """The strategy of a target's cases."""
    return import_module(f"tests.fuzz.{target}").cases


def explore(tally: Tally, sandbox: Sandbox, count: int, number: int | None, until: float | None = None) -> None:
    """Try some inputs; one that ends badly, in a way that is not in the tally yet, is made smaller and kept.

    Args:
        tally: Of the target; it is added to.
        sandbox: Where they are tried.
        count: How many, at most.
        number: Chooses the inputs; None for the same at each call of this version.
        until: When to stop, as `time.monotonic` counts.
    """
    known, begin = set(tally.bad), None

    @settings(max_examples=count, deadline=None, database=None, derandomize=number is None,
              phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck), print_blob=False,
              report_multiple_bugs=False, verbosity=Verbosity.quiet)
    @given(cases(tally.target))
    def one(case):
        nonlocal begin
        now = time.monotonic()
        if (until is not None and now > until) or (begin is not None and now - begin > _SHRINK_SECONDS):
            raise _Enough
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            outcome, faults = attempt(case, sandbox, Path(folder))
        tally.tried += 1
        tally.taken += outcome.status == 0 and not faults
        tally.refused += outcome.status == 2 and not faults
        if not faults or (kind := _kind(faults)) in known:
            return
        begin = begin or now
        if kind not in tally.bad or case.size <= tally.bad[kind][0].size:
            tally.bad[kind] = case, outcome, faults
        raise _Bad(kind)

    with contextlib.suppress(_Enough, _Bad, Flaky):  # the tally has it
        (one if number is None else seed(number)(one))()


def _kind(faults: list[str]) -> str:
    """What bad inputs of one cause have in common, as far as their faults tell."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "_", faults[0])[:120]


def keep(folder: Path, tally: Tally) -> None:
    """Write the bad inputs down: each a folder with its files, its command line and how it ended."""
    for number, (case, outcome, faults) in enumerate(tally.bad.values(), 1):
        place = folder / f"{tally.target}-{number}"
        shutil.rmtree(place, ignore_errors=True)
        (place / "work").mkdir(parents=True)
        case.lay_out(place / "work")
        (place / "case.json").write_text(json.dumps(
            {"entry": case.entry, "arguments": case.arguments, "faults": faults, "status": outcome.status,
             "signal": outcome.signal, "seconds": outcome.seconds, "peak_bytes": outcome.peak_bytes,
             "err": outcome.err, "out": outcome.out[-4000:]}, indent=1))
