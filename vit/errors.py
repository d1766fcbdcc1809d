"""The one exception that means "the input is bad": commands print its message as one line and end with status 2."""


class UserError(ValueError):
    """Bad input from a person: the message is one line that names what is wrong and how to put it right."""


class WorkerLost(UserError):
    """Another worker of a run does not answer.

    Args:
        rank: The worker that has noticed it.
        why: What its framework says.
    """

    def __init__(self, rank: int, why: str) -> None:
        super().__init__(f"rank {rank}: another worker has ended, or cannot be reached ({why}); once all have ended, "
                         "--resume auto goes on from the last checkpoint")


def one_line(error: BaseException, most: int = 200) -> str:
    """Shorten an exception's message to one printable line of at most `most` characters."""
    return (printable(error) or type(error).__name__)[:most]


def shortened(text: str, most: int = 1000) -> str:
    """Leave out the middle of a long text: it begins with what is wrong, and ends with the way out."""
    return text if len(text) <= most else f"{text[:most * 2 // 3]} ... {text[len(text) - most + most * 2 // 3 + 5:]}"


def printable(text: object) -> str:
    """Put a text on one line: spaces for what separates words, and "?" for what a terminal might take for a command."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(str(text).split()))
