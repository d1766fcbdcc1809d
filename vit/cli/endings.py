"""How commands end: with status 0, or with one line on stderr and status 2 (130 after Ctrl-C, 141 without a reader)."""
import argparse
import contextlib
import errno
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

import fe_compat

from vit import start
from vit.aliases import nearest
from vit.cli.help import Formatter
from vit.errors import UserError, WorkerLost, printable, shortened

# Errors of a disk, of rights or of a path: the person who runs the program can mend them.
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG,
                   errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EMFILE, errno.ENFILE)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line. An unknown flag gets the nearest known one as a hint.

    Attributes:
        elsewhere: What to write in place of flags that there are not: `{"--mixup": "--set mixup=VALUE"}`.
    """

    def __init__(self, *args, allow_abbrev: bool = False, formatter_class=Formatter, **kwargs) -> None:
        super().__init__(*args, allow_abbrev=allow_abbrev, formatter_class=formatter_class, **kwargs)
        self.elsewhere: dict[str, str] = {}

    def parse_known_args(self, args=None, namespace=None):
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flag = next((text for text in unknown if text.startswith("--")), "").partition("=")[0]
            hint = nearest(flag, self.elsewhere | {name: name for name in self._option_string_actions}) if flag else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return options, unknown

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {shortened(printable(message))} (see {self.prog} --help)\n")


def report_errors(function: Callable[[], int | None]) -> int | None:
    """Call a function; what the person at the terminal can mend is one line on stderr.

    Returns:
        What the function returns; or 2 after bad input and where the machine lacks space or rights, 75 where another
        worker is lost, 130 after Ctrl-C, and 141, without a line, once nobody reads the output any more.
    """
    try:
        status, line = function(), None
        if fault := _flush():
            status, line = _described(fault)
    except SystemExit as ended:  # after --help, or after the line of a parser
        fault = _flush()
        if fault is None or ended.code:
            raise
        status, line = _described(fault)
    except BaseException as error:
        fault = _flush()
        nameless = isinstance(error, OSError) and error.filename is None
        status, line = _described(fault if fault and nameless else error)
    if line:
        with contextlib.suppress(OSError):
            print(f"error: {shortened(line)}", file=sys.stderr, flush=True)
    return status


def _flush() -> OSError | None:
    """Write what stdout still holds. Where that cannot be, drop it, or Python would complain of it as it ends.

    Returns:
        Why it could not be written, or None.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OSError(error.errno, error.strerror, "standard output")
    return None


def _described(error: BaseException) -> tuple[int, str]:
    """The exit status and the line of an error that a person can mend; any other is raised again."""
    if isinstance(error, KeyboardInterrupt) or start.interrupted:
        return 130, "interrupted"
    if isinstance(error, WorkerLost):
        return error.status, "" if error.said else printable(error)
    if isinstance(error, UserError | fe_compat.Unusable):
        # One that was raised in a data worker comes as its traceback, which ends with the message.
        return 2, printable(str(error).rpartition("\nvit.errors.UserError: ")[2])
    if isinstance(error, MemoryError):
        detail = f" ({printable(error)})" if str(error) else ""
        return 2, f"out of memory{detail}; a smaller --batch_size, --image_size or --variant needs less"
    if isinstance(error, BrokenPipeError) and _nobody_reads():
        return 128 + signal.SIGPIPE, ""
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        return 2, printable(f"{error.filename or 'a file'}: {error.strerror}")
    raise error


def _nobody_reads() -> bool:
    """Whether stdout or stderr is a pipe whose other end is closed, as `head` closes it once it has seen enough."""
    poll = select.poll()
    for number in (1, 2):
        poll.register(number, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))
