"""Where a command's compiled graphs are kept between runs, and what they depend on."""
import hashlib
import os
import sys
from pathlib import Path

import vit
from vit.training.job import Stage

# Fields of the recipe that say which images are trained on, how long and from where, and nothing of a step.
_NOT_IN_GRAPHS = ("data", "seed", "mae_epochs", "pretrain_epochs", "finetune_epochs", "train_steps_per_epoch",
                  "eval_steps_per_epoch", "eval_every", "eval_offset")


def folder() -> Path:
    """Give the user's folder for them; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "vit" / "mindspore"


def key(stage: Stage) -> str:
    """Name what a stage's graphs may depend on beside their inputs' and parameters' shapes: program, recipe, model."""
    files = hashlib.sha256()
    for path in sorted([Path(sys.modules["__main__"].__file__), *Path(vit.__file__).parent.rglob("*.py")]):
        files.update(path.read_bytes())
    fields = {name: value for name, value in stage.job.recipe.to_dict().items() if name not in _NOT_IN_GRAPHS}
    return repr((files.hexdigest(), sorted(fields.items()), sorted(stage.config.to_dict().items()), stage.job.dtype,
                 stage.freeze_encoder))
