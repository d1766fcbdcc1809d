"""Where a stopped run goes on from, and whether what is asked of it now is what it was."""
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from vit import checkpoints
from vit.aliases import names_of, resolve
from vit.checkpoints import Checkpoint
from vit.errors import UserError, printable
from vit.training import recipe_file
from vit.training.options import RunOptions
from vit.training.recipe import Recipe

# Options that a checkpoint remembers, and that a resumed run takes from it unless they are given again.
STARTED_WITH = ("data_dir", "skip_bad_images", "pretrained", "compare_scratch")

_RESULTS = ("results.json", *(f"{name}.safetensors" for name in ("pretrained", "finetuned", "scratch")))


@dataclass(frozen=True)
class Resume:
    """A run to go on with.

    Args:
        options: What it is asked for now, completed by what it was started with.
        recipe: Its recipe's fields, changed as asked.
        checkpoints: Each stage's checkpoint, where there is one.
        last: The file that was named to go on from; None for the newest.
    """
    options: RunOptions
    recipe: dict
    checkpoints: dict[str, Checkpoint]
    last: Path | None = None

    def set_aside(self) -> None:
        """Rename the checkpoints that come after the one that was named: from now on they are of another run."""
        if self.last is not None:
            checkpoints.set_aside(self.last.parent, self.last)


def find(options: RunOptions, given: dict, copied: object = None) -> Resume | None:
    """Find the checkpoints of a stopped run; "auto" finds none where a run has not come to its first one.

    Args:
        options: What is asked for; `resume` is "auto" (the newest checkpoint that is whole) or a checkpoint's file,
            `model_dir` the run's folder (it may be left out where a file is named).
        given: The recipe's fields that are asked for now.
        copied: Where model_dir is copied to (`vit.training.mirror.Mirror`), if it is.

    Raises:
        UserError: The checkpoints are damaged, the one that is named is not there, or the recipe differs.
    """
    path = None
    if options.resume == "auto":
        if not options.model_dir:
            raise UserError("--resume auto needs --model_dir, the folder of the run to go on with")
        folder = Path(options.model_dir) / "checkpoints"
        # What a run has come to is not written over, though its checkpoints are gone.
        results = any((folder.parent / name).exists() for name in _RESULTS)
        if not results and not options.resume_override and not checkpoints.list_checkpoints(folder):
            print(f"note: {copied or options.model_dir} holds no checkpoint to go on from, so the run starts from the "
                  "beginning", file=sys.stderr, flush=True)
            return None
        found = checkpoints.newest(folder, _warn)
        last = list(found.values())[-1]
    else:
        path = Path(options.resume)
        last = checkpoints.load(path)
        folder = path.parent
        if path not in checkpoints.list_checkpoints(folder):
            raise UserError(f"{path}: is not named like a checkpoint (STAGE-STEP.safetensors)")
        found = checkpoints.newest(folder, _warn, path)
    if options.recipe is not None:
        given = recipe_file.build(options.recipe, **given).to_dict()
    changes = recipe_file.settings(options.resume_override, "--resume_override")
    try:
        recipe = Recipe.from_dict(last.recipe).to_dict()
        was = resolve(last.options, names_of(RunOptions), "option", "a newer version may have written it")
    except ValueError as error:
        raise UserError(f"{path or folder}: its recipe cannot be read: {error}") from None
    decisive = ("val_fraction", "seed") if recipe["val_fraction"] else ("val_fraction",)
    if any(changes.get(name, recipe[name]) != recipe[name] for name in decisive):
        raise UserError("the run to resume was trained on images that this val_fraction and seed would set apart: "
                        "leave both as they were, or begin a new run")
    for name in (name for name in changes if name.startswith("mae_") and changes[name] != recipe[name]):
        if name != "mae_epochs" or "mae" not in found or not changes[name]:
            raise UserError(f"{name} is {recipe[name]!r} in the run to resume, which was trained so: leave it as it "
                            "was, or begin a new run")
    if given.get("precision") == "auto":  # it was chosen when the run began
        given = {name: value for name, value in given.items() if name != "precision"}
    asked = {**given, **changes}
    differing = [f"{name} is {recipe[name]!r} there and {value!r} here" for name, value in asked.items()
                 if name not in changes and recipe[name] != value]
    if differing:
        name = differing[0].split()[0]
        raise UserError(f"the run to resume has another recipe: {'; '.join(differing)}; leave that out, or allow it "
                        f"with --resume_override {name}={given[name]}")
    print(f"resuming {last.stage} after step {last.step} (epoch {last.epoch}, written by {last.backend})", flush=True)
    # What a file was called may have changed since, so what is given now comes first.
    started = {name: getattr(options, name) or was.get(name, getattr(options, name)) for name in STARTED_WITH}
    options = replace(options, recipe=None, model_dir=str(options.model_dir or checkpoints.run_folder(path)),
                      **started)
    return Resume(options, {**recipe, **changes}, found, path)


def _warn(line: str) -> None:
    print(printable(f"warning: {line}"), file=sys.stderr, flush=True)
