"""The one exception that means "the input is bad" (the scripts print it as a line and exit with status 2), and what
others say as such a line."""


class UserError(ValueError):
    """Bad input from a person: the message is one line that names the thing and the way out."""


def one_line(error: BaseException, most: int = 200) -> str:
    """What an exception says, on one line and not long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text[:most])
