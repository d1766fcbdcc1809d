"""The one exception that means "the input is bad": commands print its message as one line and end with status 2."""
import os


class UserError(ValueError):
    """Bad input from a person: the message is one line that names what is wrong and how to put it right."""


class WorkerLost(UserError):
    """Another worker of a run has ended, or hangs.

    Args:
        line: What is known of it, and the way out.
        said: Whether a worker has printed the line already.

    Attributes:
        status: The exit status that it ends a process with: what failed may be tried again.
    """
    status = os.EX_TEMPFAIL

    def __init__(self, line: str, said: bool = False) -> None:
        super().__init__(line)
        self.said = said


def one_line(error: BaseException, most: int = 200) -> str:
    """Shorten an exception's message to one printable line of at most `most` characters."""
    return (printable(error) or type(error).__name__)[:most]


def shortened(text: str, most: int = 1000) -> str:
    """Leave out the middle of a long text: it begins with what is wrong, and ends with the way out."""
    return text if len(text) <= most else f"{text[:most * 2 // 3]} ... {text[len(text) - most + most * 2 // 3 + 5:]}"


def printable(text: object) -> str:
    """Put a text on one line: spaces for what separates words, and "?" for what a terminal might take for a command."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(str(text).split()))
