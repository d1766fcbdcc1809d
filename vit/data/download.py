"""Download a known file once into a per-user cache: whole or not at all, checked, from the first source that has it."""
import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from vit.errors import UserError
from vit.files.kinds import check_file


@dataclass(frozen=True)
class RemoteFile:
    """A file on the network.

    Args:
        name: Its file name.
        checksum: "algorithm:hex digest" of its bytes.
        urls: Its addresses, the best source first.
    """
    name: str
    checksum: str
    urls: tuple[str, ...]


def cache_dir() -> Path:
    """Return the per-user cache: `$VIT_CACHE`, or the platform's folder for caches."""
    import pooch
    return Path(os.environ.get("VIT_CACHE") or pooch.os_cache("vit"))


def checksum(path: Path, file: RemoteFile) -> str:
    """Compute the checksum of a local file with the algorithm of a remote one's.

    Returns:
        "algorithm:hex digest".
    """
    import pooch
    algorithm = file.checksum.partition(":")[0]
    return f"{algorithm}:{pooch.file_hash(str(path), alg=algorithm)}"


def sha256(path: Path) -> str:
    """Sum up a local file's bytes; hex digits."""
    import pooch
    return pooch.file_hash(str(path), alg="sha256")


def fetch(file: RemoteFile, folder: Path | None = None, timeout: float = 30) -> Path:
    """Return the local path of a file; download the file unless it is there already.

    The sources are tried in turn; `$VIT_DATA_MIRROR` (an address, to which the file's name is appended) replaces them
    all. The file gets its name only after its checksum was found right, so no part of a file is ever taken for it.

    Args:
        file: The file.
        folder: The folder to keep it in; None is the per-user cache.
        timeout: Seconds without a byte after which the next source is tried.

    Raises:
        UserError: No source delivered the file; the message says why, and what to do.
    """
    import pooch
    import requests
    folder = folder or cache_dir()
    with contextlib.suppress(OSError):  # of a folder that cannot be used, which is told below
        check_file(folder / file.name)
    mirror = os.environ.get("VIT_DATA_MIRROR")
    urls = (f"{mirror.rstrip('/')}/{file.name}", ) if mirror else file.urls
    pooch.get_logger().setLevel("WARNING")
    faults = []
    for url in urls:
        try:
            return Path(pooch.retrieve(url, known_hash=file.checksum, fname=file.name, path=folder,
                                       downloader=pooch.HTTPDownloader(progressbar=_Bar(file.name), timeout=timeout)))
        except requests.HTTPError as error:
            faults.append(f"{url}: status {error.response.status_code}")
        except requests.RequestException as error:
            faults.append(f"{url}: {_reason(error)}")
        except ValueError:  # pooch: the checksum differs
            faults.append(f"{url}: wrong checksum")
        except OSError as error:
            raise UserError(f"{folder}: cannot keep {file.name} there ({error.strerror or error}); "
                            "set VIT_CACHE to a folder that can be written, or use --data digits") from None
    raise UserError(f"could not download {file.name} ({'; '.join(faults)}); put the file by hand into a folder and "
                    f"pass that as --data_dir, or use --data digits, which needs no network")


class _Bar:
    """pooch's progress bar (tqdm), silent where the output is not a terminal."""

    def __init__(self, name: str) -> None:
        self.name, self._bar, self.total = name, None, 0

    def update(self, size: int) -> None:
        if self._bar is None:
            from tqdm import tqdm
            self._bar = tqdm(total=self.total, desc=self.name, unit="B", unit_scale=True, disable=None)
        self._bar.update(size)

    def reset(self) -> None:
        """pooch calls this at the end, to make up for rounding."""
        if self._bar is not None:
            self._bar.reset(self.total)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _reason(error: Exception) -> str:
    import requests
    if isinstance(error, requests.Timeout):
        return "timed out"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "transfer cut off"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return type(error).__name__
