"""What is done with files on the web. `vit.remote.transfer` calls this, and tries again."""
from pathlib import Path

import requests

from vit.remote.address import WAY_OUT, Address
from vit.remote.found import Found

_TIMES = 10, 60  # seconds to connect, and between two bytes
_PLAIN = {"Accept-Encoding": "identity"}  # so that sizes are those of the files
_PART = 1 << 20


def look(address: Address) -> Found:
    """Ask for a file's size and tag."""
    with requests.head(address.full, headers=_PLAIN, timeout=_TIMES, allow_redirects=True) as answer:
        if answer.status_code in (405, 501):  # a server that does not tell before it sends
            return Found(None, "")
        _check(answer)
        size = answer.headers.get("Content-Length", "")
        return Found(int(size) if size.isdecimal() else None,
                     answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "")


def get(address: Address, path: Path) -> None:
    """Read a file into another."""
    with requests.get(address.full, headers=_PLAIN, timeout=_TIMES, stream=True) as answer, open(path, "wb") as file:
        _check(answer)
        for data in answer.iter_content(_PART):
            file.write(data)


def lasting(error: BaseException) -> str | None:
    """Say what is wrong, where no further try would mend it; else None."""
    if isinstance(error, PermissionError):
        return f"access is denied ({error}); {WAY_OUT}"
    if isinstance(error, requests.HTTPError) and error.response.status_code not in (408, 425, 429) and \
            error.response.status_code < 500:
        return f"status {error.response.status_code}"
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema
                  | requests.TooManyRedirects | requests.exceptions.SSLError):
        return str(error)
    return None


def _check(answer: requests.Response) -> None:
    if answer.status_code in (404, 410):
        raise FileNotFoundError(f"status {answer.status_code}")
    if answer.status_code in (401, 403):
        raise PermissionError(f"status {answer.status_code}")
    answer.raise_for_status()
