"""The log in a run's folder: what is in it, what is not, whose it is, and what `--quiet` leaves on the terminal."""
import contextlib
import io
import os
import re
import sys

import pytest
from tqdm import tqdm

from vit.errors import UserError
from vit.training.report.log import FILE, Log, aside, say

STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(  |$)")


def _lines(folder):
    """The lines of a log without their times; each has one."""
    lines = (folder / FILE).read_text().splitlines()
    assert all(STAMP.match(line) for line in lines)
    return [STAMP.sub("", line, count=1) for line in lines]


def test_what_is_printed_is_on_the_terminal_and_in_the_log(tmp_path, capsys):
    with Log() as log:
        print("before the folder is known")
        print("a warning", file=sys.stderr)
        log.open(tmp_path)
        print("two\nlines", end="")
        print(", whole")
        print()
        sys.stdout.write("begun ")
        sys.stdout.write("and ended\n")
        tqdm.write("beside a bar")
        log.end(None, None, None)
        print("behind its end")
    print("behind all")
    out, err = capsys.readouterr()
    assert out == ("before the folder is known\ntwo\nlines, whole\n\nbegun and ended\nbeside a bar\nbehind its end\n"
                   "behind all\n")
    assert err == "a warning\n"
    first, *lines = _lines(tmp_path)
    assert first.startswith(f"process {os.getpid()} on ")
    assert lines == ["before the folder is known", "a warning", "two", "lines, whole", "begun and ended",
                     "beside a bar"]


def test_quiet_leaves_warnings_alone(tmp_path, capsys):
    with Log(quiet=True) as log:
        log.open(tmp_path)
        print("a line")
        print("a warning", file=sys.stderr)
    assert capsys.readouterr() == ("", "a warning\n")
    assert _lines(tmp_path)[1:] == ["a line", "a warning"]


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("quiet", [False, True])
def test_a_bar_is_not_in_the_log_and_quiet_shows_none(quiet, tmp_path):
    with contextlib.redirect_stderr(_Terminal()) as terminal, Log(quiet) as log:
        log.open(tmp_path)
        bar = tqdm(total=3, desc="pretrain", mininterval=0, file=sys.stderr, disable=None, ncols=60)
        for number in range(3):
            bar.update()
            if number == 1:
                print("a warning", file=sys.stderr)
        bar.close()
    assert ("pretrain: 100%" in terminal.getvalue()) is not quiet and "a warning" in terminal.getvalue()
    assert _lines(tmp_path)[1:] == ["a warning"]


def test_what_is_printed_stands_above_an_open_bar(tmp_path):
    with contextlib.redirect_stderr(_Terminal()) as terminal, Log() as log:
        log.open(tmp_path)
        bar = tqdm(total=2, desc="pretrain", file=sys.stderr, leave=False, ncols=60)
        print("a", "warning", file=sys.stderr)
        print("another", file=sys.stderr)
        sys.stderr.write("and the begin of one")
        bar.close()
    *lines, last = terminal.getvalue().split("\n")
    assert [line.rpartition("\r")[2] for line in lines] == ["a warning", "another"]
    assert last.startswith("\rpretrain:   0%") and last.rpartition("\r")[2] == "and the begin of one"
    assert _lines(tmp_path)[1:] == ["a warning", "another"]


def test_a_run_that_goes_on_adds_to_it(tmp_path):
    for number in range(2):
        with Log() as log:
            log.open(tmp_path)
            print(f"part {number}")
    assert [line for line in _lines(tmp_path) if line.startswith("part")] == ["part 0", "part 1"]


@pytest.mark.parametrize(("error", "line"), [
    (UserError("a\nb is wrong"), "error: a b is wrong"), (KeyError("x"), "error: 'x'"),
    (KeyboardInterrupt(), "error: KeyboardInterrupt"), (SystemExit(143), None)])
def test_what_ends_a_run_is_the_last_line(tmp_path, error, line):
    with Log() as log:
        log.open(tmp_path)
        print("all is well")
        log.end(type(error), error, None)
    assert _lines(tmp_path)[1:] == ["all is well", *([line] if line else [])]


def test_a_log_that_cannot_be_written_is_said_once(tmp_path, capsys):
    (tmp_path / FILE).mkdir()
    with Log() as log:
        log.open(tmp_path)
        print("one")
        print("two")
    out, err = capsys.readouterr()
    assert out == "one\ntwo\n" and err.count("\n") == 1
    assert err.startswith(f"warning: {tmp_path / FILE}: the log cannot be written (Is a directory)")


def test_one_log_within_another(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    with Log() as outer:
        outer.open(tmp_path)
        with Log() as inner:
            inner.open(tmp_path / "in")
            print("within")
        print("without")
    assert capsys.readouterr().out == "within\nwithout\n"
    assert _lines(tmp_path / "in")[1:] == ["within"] and _lines(tmp_path)[1:] == ["within", "without"]


def test_streams_are_as_they_were(tmp_path):
    before = sys.stdout, sys.stderr
    with pytest.raises(ValueError, match="broken"), Log():
        assert sys.stdout.isatty() == before[0].isatty() and sys.stderr.encoding == before[1].encoding
        raise ValueError("broken")
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.parametrize("verbose", [False, True])
def test_what_is_printed_aside_is_in_the_log_alone(tmp_path, capsys, verbose):
    with Log() as log:
        log.open(tmp_path)
        with aside(verbose):
            print("FastEstimator's")
            say("ours")
            print("a warning", file=sys.stderr)
        print("afterwards")
    shown = ["FastEstimator's", "ours", "afterwards"][not verbose:]
    assert capsys.readouterr() == ("\n".join(shown) + "\n", "a warning\n")
    assert _lines(tmp_path)[1:] == ["FastEstimator's", "ours", "a warning", "afterwards"]


def test_without_a_log_all_is_printed(capsys):
    with aside():
        print("FastEstimator's")
        say("ours")
    assert capsys.readouterr().out == "FastEstimator's\nours\n"


def test_quiet_is_quiet_aside_too(tmp_path, capsys):
    with Log(quiet=True) as log:
        log.open(tmp_path)
        with aside():
            say("ours")
    assert capsys.readouterr() == ("", "") and _lines(tmp_path)[1:] == ["ours"]


# In a run.

def test_a_quiet_run_prints_nothing_and_its_log_has_all(tmp_path, stub, capsys, refused):
    stub.run(tmp_path / "run", quiet=True)
    assert capsys.readouterr() == ("", "")
    text = "\n".join(_lines(tmp_path / "run"))
    for words in ("tiny: 154,020 parameters, depth 4, width 64; images of 32 x 32 in patches of 8 x 8",
                  "pretrain  digits100: 10,000 training, 2,000 test images, 100 classes; 2 epochs of 3 steps of 16",
                  "finetune  digits10: 1,437 training, 360 test images, 10 classes; 1 epoch of 3 steps of 16",
                  "a stub's device, stub, fp32", f"folder    {tmp_path / 'run'}, its log in train.log"):
        assert words in text, text
    assert text.index("pretrain  digits100") < text.index("finetune  digits10") < text.index("encoder copied")
    assert "Top-1 accuracy on the test images" in text
    with refused("of another run"):
        stub.run(tmp_path / "run")
    assert "\n".join(_lines(tmp_path / "run")) == text


def test_a_run_that_fails_says_so_in_its_log(tmp_path, stub, capsys):
    stub.fail_at = "pretrain"
    with pytest.raises(RuntimeError, match="the power went"):
        stub.run(tmp_path / "run")
    lines = _lines(tmp_path / "run")
    assert lines[-1] == "error: the power went"
    out = capsys.readouterr().out
    assert "digits100" in out and all(line in out for line in lines[1:-1])
