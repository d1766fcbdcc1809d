"""A run in a window of a terminal, and in a pipe: nothing is wider than the window, and nothing is coloured unasked."""
import contextlib
import fcntl
import os
import pty
import re
import struct
import termios
import threading

import pytest

from vit.cli import train

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
                contextlib.redirect_stderr(stream):
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
