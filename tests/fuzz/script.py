"""Entries that need PyTorch: the script, and `vit convert` of torch's files."""
import matplotlib.pyplot  # noqa: F401
import pooch  # noqa: F401
import requests  # noqa: F401
import sklearn.datasets  # noqa: F401
from PIL import Image

import vit_torch
from tests.fuzz.commands import convert  # noqa: F401
from vit.cli import train as command_line
from vit.data import cifar, image_folder  # noqa: F401
from vit.training import pipeline
from vit.training import train as training

Image.init()


class _Ready(Exception):
    """All was read and prepared, and the first step of a training would come next."""


def train(arguments: list[str]) -> int:
    """Run `vit_torch.py`."""
    command_line.main(vit_torch, arguments)
    return 0


def prepare(arguments: list[str]) -> int:
    """Run it up to its first step: everything is read, checked and augmented once, and nothing is trained."""
    training.fit = _first_batches
    try:
        return train(arguments)
    except _Ready:
        return 0


def _first_batches(stage, weights):
    job = stage.job
    batches = pipeline.build(stage.dataset.train, stage.dataset.evaluation, job.data, job.recipe,
                             job.script.backend.CHANNELS_FIRST, 0, job.dtype, stage.config)
    for mode in ("train", "eval"):
        batches.get_results(mode=mode, num_steps=1)
    raise _Ready
