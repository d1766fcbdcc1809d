"""The one exception that means "the input is bad": the scripts print it as a line and exit with status 2."""


class UserError(ValueError):
    """Bad input from a person: the message is one line that names the thing and the way out."""
