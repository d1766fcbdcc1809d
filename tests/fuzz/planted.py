"""Defects that the fuzzer must find, as entries: where one of these is judged well, it judges nothing."""
import os
import signal
import time
from pathlib import Path

import numpy as np


def traceback(arguments: list[str]) -> int:
    raise KeyError("no such field")


def allocation(arguments: list[str]) -> int:
    return 2 * (len(np.zeros(2 << 30, np.uint8)) == 0)


def touched(arguments: list[str]) -> int:
    np.ones(400 << 20, np.uint8)
    return 0


def loop(arguments: list[str]) -> int:
    while True:
        pass


def leftover(arguments: list[str]) -> int:
    Path("in").mkdir(exist_ok=True)
    Path("in", ".result.0badcafe").write_bytes(b"half")
    return line([*arguments, "in"])


def segfault(arguments: list[str]) -> int:
    os.kill(os.getpid(), signal.SIGSEGV)
    return 0


def changed(arguments: list[str]) -> int:
    Path(arguments[0]).write_bytes(b"other")
    return line(arguments)


def line(arguments: list[str]) -> int:
    """End with status 2 and a line of the arguments."""
    os.write(2, f"error: {' '.join(arguments)}\n".encode())
    return 2
