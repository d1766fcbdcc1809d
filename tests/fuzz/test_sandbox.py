"""The fuzzer itself: what is wrong is found, what is right is not, and a bad input is made small and kept."""
import json
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.fuzz import campaign
from tests.fuzz.__main__ import main
from tests.fuzz.campaign import Tally, explore, keep
from tests.fuzz.case import SECONDS, Case, attempt
from tests.fuzz.sandbox import Sandbox

SEED = 5


@pytest.fixture(scope="module")
def sandbox():
    """A sandbox that all of these tests share."""
    with Sandbox() as opened:
        yield opened


@pytest.mark.parametrize(("defect", "found"), [
    ("two_lines", "2 lines of errors"), ("silent", "0 lines of errors"), ("noisy", "noise"), ("fault", "status 1"),
    ("ask", "asked for too much: Unable to allocate"), ("touch", "took 4"), ("loop", "had not ended after "),
    ("wait", "had not ended after 5 s"),
    ("crash", "was ended by SIGSEGV"), ("leave", "left work/out/.result.0badcafe, half-written"),
    ("leave_temporary", "left tmp/tmpabc"), ("write_elsewhere", "left work/elsewhere"), ("change",
                                                                                         "work/in was changed")])
def test_a_planted_defect_is_found(sandbox, tmp_path, defect, found):
    _, faults = attempt(Case(f"planted.{defect}", ("in",), {"in": b"some"}), sandbox, tmp_path,
                        seconds=1 if defect in ("loop", "wait") else SECONDS)
    assert any(fault.startswith(found) for fault in faults), faults


@pytest.mark.parametrize(("text", "found"), [
    ("in: no such file", ()), ("out: no such file", ("names none of in",)), ("in: \x1b[31m", ("printed '\\x1b'",)),
    ("in: " + "x" * 5000, ("a line of 5011 characters",))])
def test_a_line_is_judged(sandbox, tmp_path, text, found):
    outcome, faults = attempt(Case("planted.line", (text,), {"in": b"some"}, ("in",)), sandbox, tmp_path)
    assert tuple(faults) == found
    assert outcome.err == f"error: {text}\n"


def test_a_command_that_should_end_well_is_judged(sandbox, tmp_path):
    case = Case("commands.vit", ("list",), statuses=(0,))
    assert attempt(case, sandbox, tmp_path)[1] == []


def test_a_bad_input_is_made_small_and_kept(sandbox, tmp_path, monkeypatch):
    def case(numbers):
        return Case("planted.crash" if max(numbers) > 50 else "planted.line", tuple(map(str, numbers)), {"a/in": b"x"})

    strategy = st.lists(st.integers(0, 1000), min_size=1).map(case)
    monkeypatch.setattr(campaign, "cases", lambda target: strategy)
    tally = Tally("numbers")
    explore(tally, sandbox, 60, SEED)
    found, = tally.bad.values()
    assert found[0].arguments == ("51",)
    assert tally.tried > tally.refused > 0 == tally.taken
    explore(tally, sandbox, 60, SEED + 1)  # it is known now, and the search goes on
    assert len(tally.bad) == 1 and tally.tried > 60
    keep(tmp_path, tally)
    kept = json.loads(Path(tmp_path, "numbers-1", "case.json").read_text())
    assert (kept["arguments"], kept["faults"]) == (["51"], ["was ended by SIGSEGV"])
    assert Path(tmp_path, "numbers-1", "work", "a", "in").read_bytes() == b"x"


@pytest.mark.parametrize(("entry", "status"), [("planted.line", 0), ("planted.fault", 1)])
def test_the_command_ends_with_a_table_and_says_where_bad_inputs_are(tmp_path, monkeypatch, capsys, entry, status):
    monkeypatch.setattr(campaign, "cases", lambda target: st.integers().map(lambda number: Case(entry, (str(number),))))
    bad = tmp_path / "bad"
    monkeypatch.setattr("sys.argv", ["fuzz", "--minutes", "0.05", "--targets", "numbers", "--keep", str(bad)])
    assert main() == status
    out = capsys.readouterr().out
    assert "kinds of bad" in out and out.count("\nnumbers ") == 1
    assert (f"the bad inputs are in {bad}" in out) == (bad / "numbers-1").is_dir() == bool(status)


def test_an_error_of_a_strategy_is_not_taken_for_a_bad_input(sandbox, monkeypatch):
    monkeypatch.setattr(campaign, "cases", lambda target: st.integers().map(lambda number: 1 // 0))
    with pytest.raises(ZeroDivisionError):
        explore(Tally("none"), sandbox, 5, SEED)
