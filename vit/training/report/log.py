"""A run's log: every line that it prints, with the time, in `train.log` in its folder.

The terminal's part and the file's are told apart here and nowhere else: `--quiet` keeps what goes to stdout from the
terminal; a bar, which is drawn over and over, never gets into the file; what FastEstimator prints beside a stage's
own lines, each of which is printed by `say`, goes into the file alone, unless `--verbose` asks for it; and where a line
is wider than the window, the terminal gets it in several, or another one in its place.
"""
import contextlib
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from vit import terminal
from vit.errors import UserError, one_line, printable
from vit.training.mirror import Mirror

FILE = "train.log"


class Log:
    """What a run prints, from when it is entered; the lines are held until `open` says where they go.

    A line is appended in one piece, so a run that goes on, or a process that prepares batches, adds to the file and
    tears no line of it. Where it cannot be written, that is said once, and the run goes on.

    Args:
        quiet: Whether what is printed on stdout is kept from the terminal.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet, self.held, self.path, self.told, self.mirror = quiet, [], None, False, None

    def __enter__(self) -> "Log":
        self.streams = sys.stdout, sys.stderr
        self.copies = Copied(sys.stdout, self, shown=not self.quiet), Copied(sys.stderr, self)
        sys.stdout, sys.stderr = self.copies
        return self

    def __exit__(self, *_) -> None:
        sys.stdout, sys.stderr = self.streams
        for copied in self.copies:
            copied.end()

    def open(self, folder: Path, mirror: Mirror | None = None) -> None:
        """Begin to write, with what was printed so far.

        Args:
            folder: The run's, which is this process's own from now on.
            mirror: What copies it elsewhere, if it is copied.
        """
        self.path, self.mirror, held = folder / FILE, mirror, self.held
        self.line(f"process {os.getpid()} on {socket.gethostname()}: {shlex.join(sys.argv)}")
        for stamp, text in held:
            self._append(stamp, text)
        self.held = []

    def end(self, _kind, error: BaseException | None, _trace) -> None:
        """Write what ends the run, if something does, and write no more: the folder may be another's."""
        if isinstance(error, Exception | KeyboardInterrupt):
            text = printable(error) if isinstance(error, UserError) else one_line(error)
            self.line(f"error: {self.mirror.shown(text) if self.mirror else text}")
        self.path = None

    def line(self, text: str) -> None:
        """Add a line to the file alone."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        if self.path is None:
            self.held.append((stamp, text))
        else:
            self._append(stamp, text)

    def _append(self, stamp: str, text: str) -> None:
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                os.write(file, f"{stamp}  {text}".rstrip().encode(errors="backslashreplace") + b"\n")
            finally:
                os.close(file)
        except OSError as error:
            if not self.told:
                self.told = True
                print(f"warning: {self.path}: the log cannot be written ({error.strerror}); training goes on",
                      file=self.streams[1], flush=True)


class Copied:
    """A stream of text whose lines also go into a log.

    Args:
        stream: The stream.
        log: The log.
        shown: Whether the stream gets them at all.
    """

    def __init__(self, stream: TextIO, log: Log, shown: bool = True) -> None:
        self.stream, self.log, self.shown, self.begun = stream, log, shown, ""
        self.waiting, self.owner = "", os.getpid()

    def write(self, text: str) -> int:
        """Write some text. What begins with a carriage return is a bar's, and not for the file."""
        drawn = text.startswith("\r") or not text
        if not drawn and (self.begun or text != "\n"):
            *lines, self.begun = (self.begun + text).split("\n")
            for line in lines:
                self.log.line(line)
        if self.shown and drawn:
            self.stream.write(text)
        elif self.shown:
            self._show(text)
        return len(text)

    def _show(self, text: str) -> None:
        """Write what is no bar's: above an open bar, once a line of it is whole, or the bar would cover its begin."""
        text, self.waiting = self.waiting + text, ""
        if not self._has_bar():
            self.stream.write(text)
            return
        lines, end, self.waiting = text.rpartition("\n")
        if end:
            with tqdm.external_write_mode(self):
                self.stream.write(lines + end)

    def _has_bar(self) -> bool:
        """Whether this process has a bar there; one that prepares batches was forked from it, and lets it be."""
        return bool(tqdm._instances) and os.getpid() == self.owner and self.stream.isatty()

    def end(self) -> None:
        """Write what still waits for the end of its line."""
        if self.waiting:
            self.stream.write(self.waiting)

    def tell(self, line: str, shown: str) -> None:
        """Put a line, or several, into the log, and a text on the stream, which is shown."""
        for part in line.split("\n"):
            self.log.line(part)
        if isinstance(self.stream, Copied):
            self.stream.tell(line, shown)
        else:
            self.stream.write(f"{shown}\n")

    def isatty(self) -> bool:
        """Whether a bar may be drawn."""
        return self.stream.isatty() and not self.log.quiet

    def __getattr__(self, name: str):
        return getattr(self.stream, name)


class Aside(Copied):
    """A stream that is not shown, in the place of one that may be."""

    def __init__(self, stream: Copied) -> None:
        super().__init__(stream, stream.log, shown=False)


@contextlib.contextmanager
def aside(verbose: bool = False) -> Iterator[None]:
    """While it is entered, what is printed on stdout goes into the log alone; where there is no log, it is printed.

    Args:
        verbose: Whether it is printed all the same.
    """
    if verbose or not isinstance(sys.stdout, Copied):
        yield
        return
    with contextlib.redirect_stdout(Aside(sys.stdout)):
        yield


def say(line: str, shown: str | None = None) -> None:
    """Print a line, or several, beside a bar if there is one, also within `aside`.

    Args:
        line: What the log gets, and whoever is no terminal.
        shown: What a terminal gets in its place; None is the line, broken where the window ends.
    """
    out = sys.stdout.stream if isinstance(sys.stdout, Aside) else sys.stdout
    columns = terminal.width(out)
    shown = terminal.wrapped(line, columns) if shown is None else shown
    with contextlib.redirect_stdout(out), tqdm.external_write_mode():  # it moves its bars for the streams of that name
        if columns is not None and isinstance(out, Copied):
            out.tell(line, shown)
        else:
            print(line if columns is None else shown)
        out.flush()
