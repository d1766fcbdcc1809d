"""What a server says of a file."""
from typing import NamedTuple


class Found(NamedTuple):
    """A file that is there.

    Attributes:
        size: Its bytes; None where the server does not say.
        tag: What changes when the file does (an ETag, or when it was written); "" where the server does not say.
    """
    size: int | None
    tag: str
