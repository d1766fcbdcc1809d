"""How the contenders of a step take turns, what is kept of it, and what is said where one cannot."""
import json
import sys

import pytest

from benchmarks import step

# A contender whose turns take 1, 2, 3 ... seconds, `whole` twice as long; `broken` does not start, `late` ends early.
FAKE = f"""#!{sys.executable}
import json, sys
name = sys.argv[4]
if name == "broken":
    sys.exit("Traceback (most recent call last):\\nImportError: no such thing\\n\\n")
for count, _ in enumerate(sys.stdin, start=1):
    if name == "late" and count == 2:
        sys.exit("no more")
    seconds = count * (2 if name == "whole" else 1)
    print(json.dumps(dict(seconds=seconds, processor=seconds, peak=count)), flush=True)
"""


@pytest.fixture
def contenders(tmp_path, monkeypatch):
    """Stand-ins for all contenders, and a folder for what is kept."""
    path = tmp_path / "contender"
    path.write_text(FAKE)
    path.chmod(0o755)
    monkeypatch.setattr(step.sys, "executable", str(path))
    monkeypatch.setattr(step, "_keep", lambda backend, rows, asked: (tmp_path / "kept").write_text(json.dumps(rows)))
    return tmp_path


def _main(monkeypatch, *arguments):
    monkeypatch.setattr(step.sys, "argv", ["step.py", *arguments])
    step.main()


def test_all_turns_after_the_warm_up_are_kept_with_those_of_ours(contenders):
    found = step.measure("torch", ["whole", "fe"], "tiny", 2, 3)
    assert found["fe"] == {"seconds": 4, "processor": 4, "least": 3, "peak": 5, "turns": [3, 4, 5],
                           "whole": [6, 8, 10]}
    assert found["whole"]["turns"] == found["whole"]["whole"] == [6, 8, 10]


def test_who_predicts_has_no_whole_step_beside_it(contenders):
    assert "whole" not in step.measure("torch", ["ours_1"], "tiny", 2, 1)["ours_1"]


def test_what_is_compiled_takes_turns_with_a_whole_step_of_its_own():
    assert step.groups(["ours", "ours_xla", "whole", "whole_compiled", "fe", "fe_kept", "ours_1", "ours_128"]) == [
        ["ours", "whole", "fe", "fe_kept"], ["whole", "ours_xla", "whole_compiled"], ["ours_1", "ours_128"]]
    assert step.groups(["ours_compiled"]) == [["ours_compiled"]]


@pytest.mark.parametrize("backend", step.MODULES)
def test_every_contender_is_kept_in_its_place(backend, contenders, monkeypatch):
    _main(monkeypatch, "--backends", backend, "--rounds", "2")
    rows = json.loads((contenders / "kept").read_text())
    assert list(rows) == [name for name in step.contenders(backend) if name in rows]
    assert all(len(row["turns"]) == 2 for row in rows.values())
    assert {name for name, row in rows.items() if "whole" not in row} == {
        name for name in rows if name.endswith(("_1", "_128"))}


@pytest.mark.parametrize(("name", "last"), [("broken", "status 1: ImportError: no such thing"),
                                            ("late", "status 1: no more")])
def test_a_contender_that_ends_says_why(name, last, contenders):
    with pytest.raises(SystemExit) as ended:
        step.measure("torch", ["whole", name], "tiny", 2, 1)
    assert ended.value.code == f"error: PyTorch, {name}: ended with {last}"


def test_a_contender_that_has_ended_before_its_turn_says_why(contenders):
    one = step.Contender("ms", "broken", "tiny", 2)
    one.process.wait()
    with pytest.raises(SystemExit, match="MindSpore, broken: ended with status 1: ImportError: no such thing"):
        one.turn()
    one.close()


@pytest.mark.parametrize(("flags", "line"), [
    (["--rounds", "0"], "--rounds and --batch_size must be at least 1"),
    (["--batch_size", "0"], "--rounds and --batch_size must be at least 1"),
    (["--only", "ours,typo"], "--only: typo is none of ours, "),
    (["--only", "mindcv", "--backends", "torch"], "--only: mindcv is none of ours, "),
    (["--backends", "jax"], "--backends: jax is none of torch, tf, ms")])
def test_what_cannot_be_measured_is_one_line(flags, line, contenders, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        _main(monkeypatch, *flags)
    assert ended.value.code == 2
    assert f"error: {line}" in capsys.readouterr().err.splitlines()[-1]
    assert not (contenders / "kept").exists()
