"""The stretches of a run: who trained which part of it, from which step, with what."""
import importlib.metadata
import platform
import socket
import subprocess
from pathlib import Path

from vit.training.job import Job, Stage

_PACKAGES = ("fastestimator", "torch", "tensorflow", "mindspore", "numpy")


def begin(stage: Stage) -> None:
    """Note that this process trains from here on, with so many workers: once a run, for the first stage that it trains.

    What an earlier process trained after the checkpoint that this one goes on from is not part of the run.
    """
    job = stage.job
    if job.trains:
        return
    job.trains = True
    checkpoint = job.checkpoints.get(stage.name)
    step = checkpoint.step if checkpoint is not None else 0
    if checkpoint is None and job.checkpoints:
        checkpoint = list(job.checkpoints.values())[-1]  # of the stage before
    job.stretches = [*(before(checkpoint) if checkpoint else ()), {
        "stage": stage.name, "step": step, "recipe": job.recipe.to_dict(), "backend": job.backend,
        "versions": versions(), "git_commit": git_commit(), "host": socket.gethostname(),
        "num_workers": job.options.num_workers, "world_size": job.world.size}]


def before(checkpoint) -> list[dict]:
    """List the stretches that led to a checkpoint; what the version that wrote it did not note is None.

    Args:
        checkpoint: The `vit.checkpoints.Checkpoint`.
    """
    found = checkpoint.stretches or [{
        "stage": checkpoint.stage, "step": None, "recipe": checkpoint.recipe, "backend": checkpoint.backend,
        "versions": None, "git_commit": None, "host": None, "num_workers": None}]
    return [stretch | {"world_size": stretch.get("world_size")} for stretch in found]


def told(job: Job) -> list[dict]:
    """List a run's stretches as `results.json` has them: of each but the first, the recipe's changes alone."""
    rows, last = [], None
    for stretch in job.stretches:
        recipe = stretch["recipe"]
        change = recipe if last is None else {name: value for name, value in recipe.items()
                                              if name not in last or last[name] != value}
        rows.append({**stretch, "recipe": change})
        last = recipe
    return rows


def versions() -> dict[str, str | None]:
    """Name the releases of Python and of the packages that the numbers depend on; None for one that is missing."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def git_commit() -> str | None:
    """Name the commit of this code, with a + behind it where files were changed since; None outside of a checkout."""
    asked = ("git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+")
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
