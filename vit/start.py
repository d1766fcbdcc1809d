"""How a command's process begins: with standard streams that can be written to, and with Ctrl-C as one line."""
import os
import signal
import sys
from typing import NoReturn

interrupted = False  # whether Ctrl-C was pressed: libraries turn it into errors of their own
_stderr: int | None = None  # a copy of the descriptor: while libraries are imported, stderr itself may be held back


def begin() -> None:
    """Make the standard streams usable, and let Ctrl-C end the process at once until `imported` is called.

    As an exception, Ctrl-C would come out of half an import as any other error, or not at all.
    """
    global _stderr
    _open_missing_streams()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a file's name may be in no encoding at all
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else someone else decides, or it is ignored
        _stderr = os.dup(2)
        signal.signal(signal.SIGINT, _leave)


def imported() -> None:
    """Let Ctrl-C be an exception again: now there may be something to put in order."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, _interrupt)


def ended() -> None:
    """Let Ctrl-C end the process without a word: all is done, and an exception could only disturb Python's end."""
    if signal.getsignal(signal.SIGINT) in (_leave, _interrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _open_missing_streams() -> None:
    """Put /dev/null in the place of a closed stream; else the next file that is opened would get what is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
            os.set_inheritable(number, True)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def _leave(*_) -> NoReturn:
    os.write(_stderr, b"error: interrupted\n")
    os._exit(130)


def _interrupt(*_) -> NoReturn:
    global interrupted
    interrupted = True
    raise KeyboardInterrupt
