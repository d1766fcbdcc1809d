"""What checkpoints are called: STAGE-STEP.safetensors, in the folder `checkpoints` of their run."""
import re
from pathlib import Path

from vit.errors import UserError

SUFFIX = ".safetensors"
FOLDER = "checkpoints"
_NAME = re.compile(rf"([^.].*)-([0-9]+){re.escape(SUFFIX)}", re.DOTALL)


def checkpoint_name(stage: str, step: int) -> str:
    """Return the file name of a stage's checkpoint after some steps."""
    return f"{stage}-{step:08d}{SUFFIX}"


def parse_name(path: str | Path) -> tuple[str, int] | None:
    """Return the stage and the step that a checkpoint's file name says; None for a file of another name."""
    match = _NAME.fullmatch(Path(path).name)
    return (match[1], int(match[2])) if match else None


def run_folder(path: str | Path) -> Path:
    """Return the folder of the run that a checkpoint belongs to.

    Links stay as they are: where a run's `checkpoints` is a link to another disk, the run is where the link is.

    Args:
        path: The checkpoint, which may be named relative to the present folder.

    Raises:
        UserError: It does not lie in a folder called `checkpoints`, so that its run is not known.
    """
    folder = Path(path).parent
    if folder.name in ("", ".."):  # "." and the like have no name of their own
        folder = folder.resolve()
    if folder.name != FOLDER:
        raise UserError(f"{path}: lies in no folder called {FOLDER}, so its run is not known: name the run's folder "
                        "with --model_dir")
    return folder.parent
