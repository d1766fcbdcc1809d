"""How commands end: with status 0, or with one line on stderr and status 2 (130 after Ctrl-C)."""
import argparse
import errno
import sys
from collections.abc import Callable
from typing import NoReturn

import fe_compat

from vit.aliases import nearest
from vit.errors import UserError

# Errors of a disk or of rights: the person who runs the program can mend them.
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line. An unknown flag gets the nearest known one as a hint.

    Attributes:
        elsewhere: What to write in place of flags that there are not: `{"--mixup": "--set mixup=VALUE"}`.
    """

    def __init__(self, *args, allow_abbrev: bool = False, **kwargs) -> None:
        super().__init__(*args, allow_abbrev=allow_abbrev, **kwargs)
        self.elsewhere: dict[str, str] = {}

    def parse_known_args(self, args=None, namespace=None):
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flag = next((text for text in unknown if text.startswith("--")), "").partition("=")[0]
            hint = nearest(flag, self.elsewhere | {name: name for name in self._option_string_actions}) if flag else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return options, unknown

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def report_errors(function: Callable[[], int | None]) -> int | None:
    """Call a function; what the person at the terminal can mend is one line on stderr.

    Returns:
        What the function returns; or 2 after bad input and where the machine lacks space or rights, 130 after Ctrl-C.
    """
    try:
        return function()
    except KeyboardInterrupt:
        line, status = "interrupted", 130
    except (UserError, fe_compat.Unusable) as error:
        # One that was raised in a data worker comes as its traceback, the last line of which is the message.
        line, status = str(error).strip().splitlines()[-1].removeprefix("vit.errors.UserError: "), 2
    except MemoryError as error:
        line, status = f"out of memory ({error}); a smaller --batch_size, --image_size or --variant needs less", 2
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            raise
        line, status = f"{error.filename or 'a file'}: {error.strerror}", 2
    print(f"error: {line}", file=sys.stderr)
    return status
