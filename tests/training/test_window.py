"""A run in a window of a terminal, and in a pipe: nothing is wider than the window, and nothing is coloured unasked."""
import contextlib
import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading

import pytest

from vit.cli import train
from vit.errors import UserError

pytestmark = pytest.mark.backend("torch")
FLAGS = ("--data", "digits", "--variant", "tiny", "--finetune_epochs", "1", "--batch_size", "16",
         "--train_steps_per_epoch", "3", "--eval_steps_per_epoch", "1", "--model_dir", "run")
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def printed(tmp_path, monkeypatch):
    """A function: what a short run prints in a window of so many columns, or in a pipe; and its log's lines."""
    import vit_torch
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm")

    def run(columns, no_colour, *flags):
        monkeypatch.setenv("NO_COLOR", no_colour)
        here, there = pty.openpty() if columns else os.pipe()
        if columns:
            fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        parts = []

        def read():
            with contextlib.suppress(OSError):  # a terminal's way to end
                while part := os.read(here, 65536):
                    parts.append(part)

        reader = threading.Thread(target=read)
        reader.start()
        with open(there, "w", encoding="utf-8") as stream, contextlib.redirect_stdout(stream), \
                contextlib.redirect_stderr(stream), contextlib.suppress(SystemExit):
            train.main(vit_torch, [*FLAGS, *flags])
        reader.join()
        os.close(here)
        log = [line[21:] for line in (tmp_path / "run/train.log").read_text().splitlines()]
        return b"".join(parts).decode().replace("\r\n", "\n"), log

    return run


@pytest.mark.parametrize(("columns", "no_colour"), [(60, ""), (80, "1")])
def test_no_line_is_wider_than_the_window(printed, columns, no_colour):
    text, log = printed(columns, no_colour, "--pretrain_epochs", "2", "--compare_scratch", "--val_fraction", "0.1")
    shown = ESCAPE.sub("", text)
    assert "\x1b" not in shown and (shown == text) is bool(no_colour)
    assert [line for line in re.split(r"[\r\n]", shown) if len(line) > columns] == []
    assert re.search(r"\rpretrain +\d+%\|.*\| 3/6, loss \d\.\d+, 00:0\d left", shown)  # a bar
    lines = [line.rpartition("\r")[2].split() for line in shown.splitlines()]
    rows = [cells for cells in lines if cells and re.fullmatch(r"\d/\d", cells[0])]
    assert [cells[0] for cells in rows] == ["1/2", "2/2", "1/1", "1/1"] and all(cells[3][-1] == "%" for cells in rows)
    assert [cells[0] for cells in lines if cells[1:3] == ["loss", "val."]] == ["pretrain", "finetune", "scratch"]
    assert sum(bool(re.match(r"(pretrain|finetune|scratch): epoch \d/\d: .* \| validation: .*, \d\.\d s$", line))
               for line in log) == 4
    assert "  finetune, from scratch" in "\n".join(log) and not any("\x1b" in line or "\r" in line for line in log)


def test_a_pipe_gets_whole_lines_and_nothing_else(printed):
    text, log = printed(None, "", "--pretrain_epochs", "1")
    assert "\x1b" not in text and "\r" not in text
    assert text.count(": epoch ") == 2 and set(text.splitlines()) <= {*log, ""}


def test_a_warning_and_an_error_stand_beside_no_bar(printed, monkeypatch):
    from vit.training.traces import TrainHistory

    def check(history, what, value, step):
        if (what, step) == ("loss", 1):
            print("warning: a step", file=sys.stderr)
        elif step == 2:
            raise UserError("another step")

    monkeypatch.setattr(TrainHistory, "_check_finite", check)
    text, log = printed(60, "1", "--pretrain_epochs", "1")
    lines = [line.rpartition("\r")[2] for line in text.split("\n")]
    assert "\rpretrain   0%|" in text and lines[-3:] == ["warning: a step", "error: another step", ""]
    assert log[-1] == "error: another step" and log.count("warning: a step") == 1


def test_a_dumb_terminal_gets_whole_lines_and_no_bar(printed, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    text, log = printed(60, "", "--pretrain_epochs", "1")
    assert "\x1b" not in text and "\r" not in text and text.count(": epoch ") == 2
    assert set(text.splitlines()) <= {*log, ""}
