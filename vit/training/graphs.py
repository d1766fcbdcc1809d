"""Where a command's compiled graphs are kept between runs, and what they depend on."""
import functools
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
    fields = {name: value for name, value in stage.job.recipe.to_dict().items() if name not in _NOT_IN_GRAPHS}
    return repr((_program(), sorted(fields.items()), sorted(stage.config.to_dict().items()), stage.job.dtype,
                 stage.freeze_encoder))


def _program() -> list[str]:
    """The checksums of the files that the program is of: the script, what it imports from beside it, this package."""
    script = Path(sys.modules["__main__"].__file__).resolve()
    imported = {Path(vars(module)["__file__"]).resolve() for module in list(sys.modules.values())
                if getattr(module, "__dict__", {}).get("__file__")}  # to ask a module itself may make it load
    beside = {path for path in imported if path.is_relative_to(script.parent) and "site-packages" not in path.parts}
    return [_checksum(path) for path in sorted({script, *beside, *_OWN}) if path.is_file()]


@functools.cache  # a file that is changed while the program runs is not what the program was made of
def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


_OWN = sorted(Path(vit.__file__).resolve().parent.rglob("*.py"))
for _path in _OWN:
    _checksum(_path)
