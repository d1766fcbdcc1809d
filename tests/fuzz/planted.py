"""Entries with defects that the fuzzer must find: where one of these is judged well, it judges nothing."""
import os
import signal
from pathlib import Path

import numpy as np


def line(arguments: list[str]) -> int:
    """End with status 2 and a line of the arguments: nothing is wrong with that."""
    os.write(2, f"error: {' '.join(arguments)}\n".encode())
    return 2


def two_lines(arguments: list[str]) -> int:
    """End with two lines."""
    return line(arguments) and line(arguments)


def silent(arguments: list[str]) -> int:
    """End with status 2 and no line."""
    return 2


def noisy(arguments: list[str]) -> int:
    """End well, with a library's warning."""
    os.write(2, b"UserWarning: deprecated\n")
    return 0


def fault(arguments: list[str]) -> int:
    """End with a traceback."""
    raise KeyError("no such field")


def ask(arguments: list[str]) -> int:
    """Ask for 2 GB, and say in one line that there is no more."""
    try:
        np.zeros(2 << 30, np.uint8)
    except MemoryError as error:
        return line([str(error)])
    return line(arguments)


def touch(arguments: list[str]) -> int:
    """Take 400 MB."""
    np.ones(400 << 20, np.uint8)
    return line(arguments)


def loop(arguments: list[str]) -> int:
    """Never end."""
    while True:
        pass


def wait(arguments: list[str]) -> int:
    """Wait for what will never come."""
    os.mkfifo("pipe")
    return os.open("pipe", os.O_RDONLY)


def crash(arguments: list[str]) -> int:
    """End as a library does that reads where it must not."""
    os.kill(os.getpid(), signal.SIGSEGV)
    return 0


def leave(arguments: list[str]) -> int:
    """Leave a part of the result."""
    Path("out").mkdir()
    Path("out", ".result.0badcafe").write_bytes(b"half")
    return line(arguments)


def leave_temporary(arguments: list[str]) -> int:
    """Leave a temporary file."""
    Path(os.environ["TMPDIR"], "tmpabc").touch()
    return line(arguments)


def write_elsewhere(arguments: list[str]) -> int:
    """Write where nobody asked it to."""
    Path("elsewhere").touch()
    return 0


def change(arguments: list[str]) -> int:
    """Change an input."""
    Path("in").write_bytes(b"other")
    return line(arguments)
