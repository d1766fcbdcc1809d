"""Results that a file of JSON keeps by name, while other processes may be adding theirs."""
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from vit.files.alone import alone
from vit.files.atomic import write_whole


@contextlib.contextmanager
def changed(path: Path) -> Iterator[dict]:
    """Give what a file holds to a block that may change it, and write it afterwards, in the order of the names.

    One thread of one process at a time is in such a block for a file.

    Args:
        path: The file; where there is none, it holds nothing.
    """
    with alone(path.with_name(f".{path.name}.lock")):
        content = read(path)
        yield content
        write_whole(path, (json.dumps(dict(sorted(content.items())), indent=1) + "\n").encode())


def read(path: Path) -> dict:
    """What a file holds now."""
    return json.loads(path.read_text()) if path.exists() else {}
