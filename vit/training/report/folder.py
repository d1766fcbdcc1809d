"""The folder of a run's files."""
import itertools
import os
import shutil
from pathlib import Path

from vit.errors import UserError


def open_folder(folder: Path, resuming: bool = False) -> None:
    """Make the folder for a run's files, or clear the way in that of an earlier run.

    Args:
        folder: Where it is.
        resuming: Whether the run goes on from the checkpoints in it; else they are put into `checkpoints.old`, for
            their steps could be taken for this run's.

    Raises:
        UserError: It cannot be made or written.
    """
    probe(folder, "model_dir")
    (folder / "results.json").unlink(missing_ok=True)  # an earlier run's; this one's is written last
    checkpoints = folder / "checkpoints"
    if not resuming and checkpoints.is_dir() and any(checkpoints.iterdir()):
        shutil.rmtree(folder / "checkpoints.old", ignore_errors=True)
        checkpoints.rename(folder / "checkpoints.old")
        print(f"note: {folder}: the checkpoints of an earlier run are now in checkpoints.old", flush=True)


def probe(folder: Path, flag: str) -> None:
    """Make a folder if need be, and see that it can be written.

    Args:
        folder: Where it is.
        flag: Which flag says so.

    Raises:
        UserError: It cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f".probe-{os.getpid()}"
        file.touch()
        file.unlink()
    except OSError as error:
        raise UserError(f"{folder}: {flag} cannot be written ({error.strerror}); choose another --{flag}") from None


def unused(folder: Path) -> Path:
    """Make a folder that no other run has, by this name or with -2, -3 and so on behind it.

    Raises:
        UserError: It cannot be made.
    """
    path = folder
    for number in itertools.count(2):
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            path = folder.with_name(f"{folder.name}-{number}")
        except OSError as error:
            raise UserError(f"{path}: cannot be made ({error.strerror}); name a --model_dir") from None
