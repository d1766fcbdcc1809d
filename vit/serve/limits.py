"""What the server takes at most, and how long it waits."""
from dataclasses import dataclass

from vit.errors import UserError
from vit.fields import check, option


@dataclass(frozen=True)
class Limits:
    """Bounds that keep the server up whatever it is sent. Each is a flag of `vit serve`.

    Raises:
        UserError: One is out of its own bounds; the message names it.
    """
    max_bytes: int = option(10_000_000, "Bytes of an image; a larger one is answered with 413.", limits="[1, inf)")
    max_pixels: int = option(25_000_000, "Width times height of an image; a larger one is answered with 413.",
                             limits="[1, inf)")
    timeout: float = option(30.0, "Seconds in which an image must have arrived (else 408), and then be answered "
                            "(else 503).", limits="(0, inf)")
    queue: int = option(128, "Images that are read or wait at once; one more is answered with 429.", limits="[1, inf)")
    max_batch: int = option(16, "Images that are computed at a time.", limits="[1, 1024]")
    wait_ms: int = option(5, "Milliseconds that a batch waits for images that are being read.", limits="[0, 10000]")

    def __post_init__(self) -> None:
        try:
            check(self)
        except ValueError as error:
            raise UserError(str(error)) from None
