"""A folder of checkpoints: their names, which is the newest that is whole, and a table of them."""
import itertools
from collections.abc import Callable
from pathlib import Path

from vit.checkpoints.file import Checkpoint, load
from vit.errors import UserError

STAGES = ("pretrain", "finetune", "scratch")
SUFFIX = ".safetensors"


def name(stage: str, step: int) -> str:
    """The name of the file of a stage after some steps."""
    return f"{stage}-{step:08d}{SUFFIX}"


def checkpoints(folder: str | Path) -> list[Path]:
    """The checkpoints of a folder, oldest first: by stage, then by step; what is not named like one is left out."""
    found = []
    for path in Path(folder).glob(f"*{SUFFIX}"):
        stage, _, step = path.name.removesuffix(SUFFIX).rpartition("-")
        if stage and step.isdigit() and path.is_file() and not path.name.startswith("."):
            order = STAGES.index(stage) if stage in STAGES else len(STAGES)
            found.append(((order, stage, int(step)), path))
    return [path for _, path in sorted(found)]


def newest(folder: str | Path, say: Callable[[str], None], last: Path | None = None) -> dict[str, Checkpoint]:
    """Each stage's newest checkpoint that is whole.

    Args:
        folder: Where they are.
        say: Is told of each newer one that is damaged, in one line.
        last: The last one to look at; None for all.

    Returns:
        `{stage: checkpoint}`, the stage that was begun last at the end.

    Raises:
        UserError: There is none.
    """
    paths = checkpoints(folder)
    paths = paths if last is None else paths[:paths.index(last) + 1]
    found: dict[str, Checkpoint] = {}
    for path in reversed(paths):
        stage = stage_of(path)
        if stage not in found:
            try:
                found[stage] = load(path)
            except UserError as error:
                say(f"{error}; taking the one before it")
    if not found:
        raise UserError(f"{folder}: none of its {len(paths)} checkpoints is whole" if paths else
                        f"{folder}: holds no checkpoints, so there is nothing to resume")
    return dict(reversed(found.items()))


def set_aside(folder: str | Path, after: Path) -> None:
    """Rename the checkpoints that come after one of them, so that they no longer count; nothing is deleted."""
    paths = checkpoints(folder)
    for path in paths[paths.index(after) + 1:] if after in paths else ():
        numbers = itertools.chain([""], itertools.count(2))
        names = (path.with_name(f"{path.name}.superseded{number}") for number in numbers)
        path.rename(next(name for name in names if not name.exists()))


def stage_of(path: Path) -> str:
    """The stage that a checkpoint's name tells."""
    return path.name.rpartition("-")[0]


def prune(folder: str | Path, stage: str, keep: int, best: str | None) -> None:
    """Delete a stage's checkpoints but for the newest ones and the best.

    Args:
        folder: Where they are.
        stage: Whose.
        keep: How many of the newest stay.
        best: Name of a file that stays as well, or None.
    """
    own = [path for path in checkpoints(folder) if stage_of(path) == stage]
    for path in own[:-keep]:
        if path.name != best:
            path.unlink(missing_ok=True)


def describe(folder: str | Path) -> str:
    """A table of a folder's checkpoints: stage, step, epoch, metric, size, and whether they are whole.

    Raises:
        UserError: There is no such folder, or it holds none.
    """
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: no such folder")
    # A run's folder keeps them in one of its own.
    folder = Path(folder) / "checkpoints" if (Path(folder) / "checkpoints").is_dir() else Path(folder)
    paths = checkpoints(folder)
    if not paths:
        raise UserError(f"{folder}: holds no checkpoints")
    rows = [("file", "stage", "step", "epoch", "top-1", "MB", "written by", "state")]
    for path in paths:
        size = f"{path.stat().st_size / 1e6:.1f}"
        try:
            point = load(path)
        except UserError as error:
            rows.append((path.name, "", "", "", "", size, "", f"NOT VALID: {str(error).removeprefix(f'{path}: ')}"))
            continue
        metric = "" if point.metric is None else f"{point.metric:.1%}"
        rows.append((path.name, point.stage, str(point.step), str(point.epoch), metric, size, point.backend,
                     f"valid, {point.phase}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
                     for row in rows)
