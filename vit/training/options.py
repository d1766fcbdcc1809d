"""What a run takes beside its recipe."""
import dataclasses
from dataclasses import dataclass

from vit.errors import UserError
from vit.training.recipe import Recipe


@dataclass(frozen=True)
class RunOptions:
    recipe: object = None
    data_dir: str | None = None
    skip_bad_images: bool = False
    model_dir: str | None = None
    num_workers: int = 0
    log_steps: int = 100
    checkpoint_every: int | str = "epoch"
    keep: int = 3
    on_save_error: str = "continue"
    resume: str | None = None
    resume_override: tuple = ()
    tensorboard: str | None = None
    profile: bool = False
    compare_scratch: bool = False
    pretrained: str | None = None
    device_target: str | None = None


def split(given):
    names = {f.name for f in dataclasses.fields(RunOptions)}
    return RunOptions(**{k: v for k, v in given.items() if k in names}), {k: v for k, v in given.items() if k not in names}


def documented(function):
    return function
