"""What goes to a terminal: its width, what it takes for bold, lines that are broken, tables that are made to fit."""
import fcntl
import io
import os
import pty
import struct
import sys
import termios

import pytest

from vit import terminal

HEADS = ["file", "step", "state"]
ROWS = [["pretrain-1", "1", "valid"], ["finetune-20", "20", "damaged"]]


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("columns", "width"), [(60, 60), (200, 200), (3, 20), (0, 71)])
def test_the_width_is_the_windows(columns, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", "71")  # for a window that has none
    monkeypatch.setenv("TERM", "xterm")
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 20, columns, 0, 0))
    with open(there, "w") as stream:
        assert terminal.width(stream) == width
    os.close(here)


@pytest.mark.parametrize(("stream", "term"), [(io.StringIO, "xterm"), (_Terminal, "dumb"), (_Terminal, None)])
def test_a_file_and_a_dumb_terminal_have_lines_of_any_width(stream, term, monkeypatch):
    monkeypatch.delenv("TERM", raising=False)
    if term:
        monkeypatch.setenv("TERM", term)
    assert terminal.width(stream()) is None


@pytest.mark.parametrize(("stream", "variables", "styled"), [
    (_Terminal, {"TERM": "xterm"}, True), (_Terminal, {"TERM": "xterm", "NO_COLOR": ""}, True),
    (_Terminal, {"TERM": "xterm", "NO_COLOR": "1"}, False), (_Terminal, {"TERM": "dumb"}, False),
    (_Terminal, {}, False), (io.StringIO, {"TERM": "xterm"}, False)])
def test_styles_are_for_terminals_that_take_them(stream, variables, styled, monkeypatch):
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", stream())
    assert terminal.styled("best", "bold") == ("\x1b[1mbest\x1b[0m" if styled else "best")


def test_lines_are_broken_between_words():
    text = "first of some words\n\n  indented: /a/path/of/many/letters and-more"
    assert terminal.wrapped(text, None) == text
    assert terminal.wrapped(text, 20, indent="    ").split("\n") == [
        "first of some words", "", "  indented:", "    /a/path/of/many/letters", "    and-more"]


def test_a_table_leaves_columns_out_until_it_fits():
    def table(columns):
        return terminal.table(HEADS, ROWS, columns, left=("file", "state"), spare=("step", "state"))

    whole = ["file         step  state", "pretrain-1      1  valid", "finetune-20    20  damaged"]
    assert table(None) == table(26) == whole
    assert table(25) == ["file         state", "pretrain-1   valid", "finetune-20  damaged"]
    assert table(19) == table(1) == ["file", "pretrain-1", "finetune-20"]
