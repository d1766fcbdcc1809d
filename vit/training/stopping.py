"""SIGTERM, SIGHUP and Ctrl-C as a request: the first one is remembered, and the next one ends the process at once."""
import contextlib
import os
import signal


class StopRequest:
    """While entered, the first SIGTERM, SIGHUP or SIGINT only sets `status`; after it, SIGTERM and SIGINT act at once.

    A signal that the process ignores (SIGHUP under nohup, SIGINT in a shell's background) stays ignored.

    Attributes:
        status: The exit status to leave with (143, 129 or 130), or None as long as nobody asked.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        self._owner = os.getpid()
        self._terminals = [number for number in (1, 2) if os.isatty(number)]
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            if signal.getsignal(number) in (signal.SIG_IGN, None):  # None: another library's, which cannot be restored
                continue
            try:
                self._before[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: nothing can be caught there
                break
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, _) -> None:
        if os.getpid() != self._owner:  # a process that prepares batches: its parent decides
            return
        self.status = 128 + number
        for other in self._before:
            # A terminal that is closed may say so twice: its shell does, and then the kernel.
            signal.signal(other, signal.SIG_IGN if other == signal.SIGHUP else signal.SIG_DFL)
        with contextlib.suppress(OSError):
            os.write(2, b"\nstopping: this step is finished and saved (once more to leave at once)\n")
        if number == signal.SIGHUP:
            self._leave_terminals()

    def _leave_terminals(self) -> None:
        """Print into /dev/null from now on, where it was to a terminal that may be gone: it would raise an error."""
        null = os.open(os.devnull, os.O_WRONLY)
        for number in self._terminals:
            os.dup2(null, number)
        os.close(null)
