"""The checkpoints of a folder: their names, the newest whole ones, which may go, and a table of them."""
import itertools
import os
from collections.abc import Callable
from pathlib import Path

from vit import terminal
from vit.checkpoints.naming import FOLDER, SUFFIX, parse_name
from vit.checkpoints.serialization import Checkpoint, load
from vit.errors import UserError

STAGES = ("mae", "pretrain", "finetune", "scratch")


def stage_of(path: Path) -> str:
    """Return the stage that a checkpoint's file name says."""
    return path.name.rpartition("-")[0]


def list_checkpoints(folder: str | Path) -> list[Path]:
    """List the files that are named like checkpoints, by stage and then by step."""
    found = []
    for path in Path(folder).glob(f"*{SUFFIX}"):
        named = parse_name(path)
        if named is not None and path.is_file():
            stage, step = named
            order = STAGES.index(stage) if stage in STAGES else len(STAGES)
            found.append(((order, stage, step), path))
    return [path for _, path in sorted(found)]


def _up_to(paths: list[Path], last: Path) -> int:
    """How many of some checkpoints there are up to one of them, however its folder was named."""
    names = [path.name for path in paths]
    return names.index(last.name) + 1 if last.name in names else len(names)


def newest(folder: str | Path, warn: Callable[[str], None], last: Path | None = None) -> dict[str, Checkpoint]:
    """Load each stage's newest checkpoint that is whole.

    Args:
        folder: Where they are.
        warn: Called with one line about each newer one that is damaged.
        last: The last one to look at; None for all.

    Returns:
        `{stage: checkpoint}` in the order in which the stages began.

    Raises:
        UserError: There is none.
    """
    paths = list_checkpoints(folder)
    paths = paths if last is None else paths[:_up_to(paths, last)]
    found: dict[str, Checkpoint] = {}
    for path in reversed(paths):
        stage = stage_of(path)
        if stage not in found:
            try:
                found[stage] = load(path)
            except UserError as error:
                warn(f"{error}; taking the one before it")
    if not found:
        raise UserError(f"{folder}: none of its {len(paths)} checkpoints is whole" if paths else
                        f"{folder}: holds no checkpoints, so there is nothing to resume")
    return dict(reversed(found.items()))


def set_aside(folder: str | Path, after: Path) -> None:
    """Rename the checkpoints that come after one of them, so that they no longer count; nothing is deleted."""
    paths = list_checkpoints(folder)
    for path in paths[_up_to(paths, after):]:
        numbers = itertools.chain([""], itertools.count(2))
        names = (path.with_name(f"{path.name}.superseded{number}") for number in numbers)
        path.rename(next(name for name in names if not os.path.lexists(name)))


def prune(folder: str | Path, stage: str, keep: int, best: str | None) -> None:
    """Delete a stage's checkpoints except the newest ones and the best.

    Args:
        folder: Where they are.
        stage: The stage.
        keep: How many of the newest stay.
        best: Name of a file that stays as well, or None.
    """
    own = [path for path in list_checkpoints(folder) if stage_of(path) == stage]
    for path in own[:-keep]:
        if path.name != best:
            path.unlink(missing_ok=True)


def describe(folder: str | Path, columns: int | None = None) -> str:
    """Return a table of a folder's checkpoints: stage, step, epoch, metric, size, and whether they are whole.

    Args:
        folder: The run's, or that of its checkpoints.
        columns: The width of the window that it is for, or None.

    Raises:
        UserError: There is no such folder, or it holds none.
    """
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: no such folder")
    # A run keeps them in a folder inside of its own.
    folder = Path(folder) / FOLDER if (Path(folder) / FOLDER).is_dir() else Path(folder)
    paths = list_checkpoints(folder)
    if not paths:
        raise UserError(f"{folder}: holds no checkpoints")
    heads, rows, faults = ["file", "stage", "step", "epoch", "top-1", "MB", "written by", "state"], [], []
    for path in paths:
        size = f"{path.stat().st_size / 1e6:.1f}"
        try:
            found = load(path)
        except UserError as error:
            rows.append([path.name, "", "", "", "", size, "", "NOT VALID"])
            faults.append(terminal.wrapped(str(error), columns))
            continue
        metric = "" if found.metric is None else f"{found.metric:.1%}"
        rows.append([path.name, found.stage, str(found.step), str(found.epoch), metric, size, found.backend,
                     f"valid, {found.phase}"])
    lines = terminal.table(heads, rows, columns, left=("file", "stage", "written by", "state"),
                           spare=("stage", "written by", "step", "MB", "epoch", "top-1"))
    return "\n".join([*lines, *faults])
