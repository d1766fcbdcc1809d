"""Some of the training images, set apart by class to choose by: the best epoch is theirs, and so is where to stop."""
import dataclasses

import numpy as np

from vit.data.image_folder import absent, tell_absent
from vit.data.sets import DataPair, Dataset
from vit.errors import UserError, printable

_EPOCH = 0  # epochs count from 1, so no order of samples is drawn with this seed (`vit.data.seeds.sample_order`)


def apart(pair: DataPair, fraction: float, seed: int) -> DataPair:
    """Set a share of the training images of both sets apart, by class.

    Args:
        pair: The sets.
        fraction: Share of each class's training images, in [0, 1); 0 sets none apart.
        seed: Which images it is, is a function of this seed, of their class, and of how many it has.

    Raises:
        UserError: There is nothing to evaluate on: no test images, and none that could be set apart.
    """
    return dataclasses.replace(pair, pretrain=pair.pretrain and _parted(pair.pretrain, fraction, seed),
                               finetune=_parted(pair.finetune, fraction, seed))


def _parted(dataset: Dataset, fraction: float, seed: int) -> Dataset:
    if not fraction:
        if not len(dataset.test):
            raise UserError(f"{printable(dataset.name)}: has no images to evaluate on; --val_fraction 0.1 sets a tenth "
                            "of the training images apart for that")
        return dataset
    labels, classes = dataset.train.labels, dataset.classes
    taken = np.zeros(len(labels), bool)
    ends = np.cumsum(np.bincount(labels, minlength=len(classes)))
    for label, places in enumerate(np.split(np.argsort(labels, kind="stable"), ends[:-1])):
        order = np.random.default_rng([seed, _EPOCH, label]).permutation(len(places))
        taken[places[order[:_share(len(places), fraction)]]] = True
    if not taken.any():
        raise UserError(f"{printable(dataset.name)}: val_fraction {fraction} sets no image apart: no class has two")
    val = dataset.train.take(np.flatnonzero(taken))
    tell_absent(f"{dataset.name}: the part of val_fraction {fraction}", classes,
                absent(classes, set(val.labels.tolist())))
    return dataclasses.replace(dataset, train=dataset.train.take(np.flatnonzero(~taken)), val=val)


def _share(count: int, fraction: float) -> int:
    """How many of a class's images are set apart: one at least, where another one is left."""
    return min(max(1, int(fraction * count + 0.5)), count - 1) if count else 0
