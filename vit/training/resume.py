"""Where a stopped run goes on from, and whether what is asked of it now is what it was."""
import sys
from dataclasses import dataclass
from pathlib import Path

from vit import checkpoints
from vit.checkpoints import Checkpoint
from vit.errors import UserError
from vit.training import recipe_file


@dataclass(frozen=True)
class Resume:
    """A run to go on with.

    Args:
        model_dir: Its folder.
        points: Each stage's checkpoint, where there is one.
        recipe: Its recipe's fields, changed as asked.
        options: What else it was started with.
        last: The file that was named to go on from; None for the newest.
    """
    model_dir: Path
    points: dict[str, Checkpoint]
    recipe: dict
    options: dict
    last: Path | None = None

    def set_aside(self) -> None:
        """Rename the checkpoints that come after the one that was named: from now on they are of another run."""
        if self.last is not None:
            checkpoints.set_aside(self.last.parent, self.last)


def find(resume: str, model_dir: str | None, given: dict, overrides: list[str]) -> Resume:
    """Find the checkpoints of a stopped run.

    Args:
        resume: "auto" (the newest that is whole), or a checkpoint's file.
        model_dir: The run's folder; may be left out where a file is named.
        given: The recipe's fields that are asked for now.
        overrides: "FIELD=VALUE" for each field that may differ from the checkpoint's.

    Raises:
        UserError: There is nothing to go on from, or the recipe differs.
    """
    path = None
    if resume == "auto":
        if not model_dir:
            raise UserError("--resume auto needs --model_dir, the folder of the run to go on with")
        folder = Path(model_dir) / "checkpoints"
        points = checkpoints.newest(folder, _warn)
        last = list(points.values())[-1]
    else:
        path = Path(resume)
        last = checkpoints.load(path)
        folder = path.parent
        if path not in checkpoints.checkpoints(folder):
            raise UserError(f"{path}: is not named like a checkpoint (STAGE-STEP.safetensors)")
        points = checkpoints.newest(folder, _warn, path)
    changes = dict(recipe_file.setting(text, "--resume_override") for text in overrides)
    asked = {**given, **changes}
    differing = [f"{name} is {last.recipe.get(name)!r} there and {value!r} here" for name, value in asked.items()
                 if name not in changes and last.recipe.get(name) != value]
    if differing:
        name = differing[0].split()[0]
        raise UserError(f"the run to resume has another recipe: {'; '.join(differing)}; leave that out, or allow it "
                        f"with --resume_override {name}={given[name]}")
    print(f"resuming {last.stage} after step {last.step} (epoch {last.epoch}, written by {last.backend})", flush=True)
    return Resume(Path(model_dir) if model_dir else folder.parent, points, {**last.recipe, **changes}, last.options,
                  path)


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)
