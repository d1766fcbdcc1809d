"""SIGTERM and Ctrl-C as a request: the first one is remembered, the second one ends the process at once."""
import os
import signal


class StopRequest:
    """While entered, the first SIGTERM or SIGINT only sets `status`; a second one acts as it always did.

    Args:
        status: The exit status to leave with (143 or 130), or None as long as nobody asked.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        self._owner = os.getpid()
        for number in (signal.SIGTERM, signal.SIGINT):
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
            signal.signal(other, signal.SIG_DFL)
        os.write(2, b"\nstopping: this step is finished and saved (once more to leave at once)\n")
