"""How commands end: what a person can mend is one line and a status, and a mistake of the program is none of it."""
import errno
import os

import numpy as np
import pytest

from vit.cli.endings import Parser, report_errors
from vit.errors import UserError, WorkerLost, one_line


def test_an_error_of_the_program_is_not_dressed_up_as_bad_input():
    def fail():
        raise ValueError("a mistake of ours")

    with pytest.raises(ValueError, match="a mistake of ours"):
        report_errors(fail)

    def miss():
        os.stat("a file of ours that is not there")

    with pytest.raises(FileNotFoundError):
        report_errors(miss)


@pytest.mark.parametrize(("raised", "status", "line"), [
    (UserError("no such file"), 2, "error: no such file\n"),
    (UserError("Traceback ...\n  in a worker\nvit.errors.UserError: a.png: cannot be read"), 2,
     "error: a.png: cannot be read\n"),
    (WorkerLost("rank 1 has ended"), 75, "error: rank 1 has ended\n"), (WorkerLost("as said", said=True), 75, ""),
    (KeyboardInterrupt(), 130, "error: interrupted\n"),
    (OSError(errno.ENOSPC, "No space left on device", "runs/a.csv"), 2, "error: runs/a.csv: No space left on device\n"),
    (OSError(errno.ENOSPC, "No space left on device"), 2, "error: a file: No space left on device\n")])
def test_what_the_machine_or_the_person_ends_is_one_line(capsys, raised, status, line):
    def fail():
        raise raised

    assert (report_errors(fail), capsys.readouterr().err) == (status, line)


def test_a_long_line_keeps_its_beginning_and_its_end(capsys):
    def fail():
        raise UserError(f"{'x' * 5000}: no such file; name another")

    assert report_errors(fail) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: xxx") and err.endswith("xxx: no such file; name another\n")
    assert len(err) == len("error: ") + 1000 + len("\n")
    assert "x" * 5000 not in _refused(Parser(), ["--" + "x" * 5000], capsys)


def test_too_little_memory_is_one_line(capsys):
    assert report_errors(lambda: np.empty((2**24, 2**24), np.float64)) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: out of memory (Unable to allocate") and "--batch_size" in err
    assert err.count("\n") == 1


def test_what_ends_well_returns_its_status(capsys):
    assert [report_errors(lambda status=status: status) for status in (None, 0, 1)] == [None, 0, 1]
    assert capsys.readouterr() == ("", "")


def _refused(parser, arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(arguments)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err


@pytest.fixture
def parser():
    """A parser of two flags, with one more that is to be written otherwise."""
    flags = Parser(prog="some")
    flags.add_argument("--image_size", type=int)
    flags.add_argument("--seed")
    flags.elsewhere = {"--mixup": "--set mixup=VALUE"}
    return flags


@pytest.mark.parametrize(("arguments", "hint"), [
    (["--imagesize", "3"], " (did you mean '--image_size'?)"), (["--sead=3"], " (did you mean '--seed'?)"),
    (["--mixup", "1"], " (did you mean '--set mixup=VALUE'?)"), (["--colour", "red"], ""), (["stray"], ""),
    (["--image", "3"], " (did you mean '--image_size'?)")])  # no guessing at what an abbreviation means
def test_an_unknown_flag_is_named_with_the_nearest(parser, capsys, arguments, hint):
    err = _refused(parser, arguments, capsys)
    assert err == f"error: unrecognized arguments: {' '.join(arguments)}{hint} (see some --help)\n"


def test_a_flag_of_a_wrong_type_is_one_line(parser, capsys):
    assert "--image_size: invalid int value: 'x'" in _refused(parser, ["--image_size", "x"], capsys)


def test_user_error_is_a_value_error():
    assert issubclass(UserError, ValueError)


def test_a_long_message_becomes_one_printable_line():
    assert one_line(ValueError("two\nlines\tand a \x1b bell")) == "two lines and a ? bell"
    assert one_line(ValueError("x" * 300), 7) == "x" * 7
    assert one_line(KeyError()) == "KeyError"
