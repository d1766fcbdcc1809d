"""FastEstimator's Pipeline with randomness as a function: of (seed, epoch, sample), never of a worker or a state.

FastEstimator's ops draw from the global generators of `random` and `numpy`. Here the dataset seeds both before each
sample's ops, from (seed, epoch, pass, index), and decides the order itself; so the batches are the same bytes for any
number of workers, and epoch 7 can be had without the six before it. An image that is mixed with another draws the
other and all that is done to it as well.
"""
import functools
import random
from collections.abc import Callable

import cv2
import numpy as np
from fe_compat import load_fastestimator

fe = load_fastestimator()

from fastestimator.op.numpyop import Delete, LambdaOp
from fastestimator.op.numpyop.meta import Fuse, Sometimes
from fastestimator.op.numpyop.multivariate import HorizontalFlip, PadIfNeeded, RandomCrop, RandomResizedCrop
from fastestimator.op.numpyop.univariate import ChannelTranspose, CoarseDropout, Normalize, ToArray
from torch.utils.data import Dataset

from vit.data import mixing, policies, resizing
from vit.data.sets import IMAGENET, DataPair, Images
from vit.model import dropout
from vit.model.config import ViTConfig
from vit.training.recipe import Recipe

NORMALIZATIONS = {
    "imagenet": IMAGENET,
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


def sample_order(seed: int, epoch: int, round_: int, count: int, shuffle: bool) -> np.ndarray:
    """The order of the samples in one pass over a set.

    Args:
        seed: The run's seed.
        epoch: Which epoch, from 1.
        round_: Which pass within the epoch, from 0 (an epoch of many steps passes over a small set several times).
        count: Number of samples.
        shuffle: Whether to shuffle at all (evaluation does not).

    Returns:
        int64 [count]: a permutation of 0..count-1.
    """
    return np.random.default_rng([seed, epoch, round_]).permutation(count) if shuffle else np.arange(count)


def sample_seed(seed: int, epoch: int, round_: int, index: int) -> int:
    """The seed of one sample's augmentation, 0 to 2**32 - 1."""
    return int(np.random.SeedSequence([seed, epoch, round_, index]).generate_state(1)[0])


def normalization(pair: DataPair, recipe: Recipe) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel, as fractions of 255, that a recipe takes off."""
    if recipe.normalize == "data":
        return pair.mean, pair.std
    return NORMALIZATIONS[recipe.normalize]


def build(train: Images, test: Images, pair: DataPair, recipe: Recipe, channels_first: bool,
          num_workers: int = 0, dtype: str = "float32", config: ViTConfig | None = None):
    """The pipeline of one stage: the recipe's augmentation over `train`, and nothing but resizing over `test`.

    Args:
        train: Training images.
        test: Evaluation images.
        pair: Where both come from (mean, deviation, whether mirroring keeps the class).
        recipe: Batch size, augmentation, seed.
        channels_first: Whether the framework wants [B, C, S, S]; else [B, S, S, C].
        num_workers: Processes that prepare batches; 0 prepares them in this one.
        dtype: Of the images and soft labels that leave: "float32" or, widened after all else, "float64".
        config: The model: its image size, its classes, and whether it has dropout, which needs keys. None is a model
            without dropout for images as they are; it cannot have soft labels.

    Returns:
        A `fastestimator.Pipeline` of batches `{"x": images, "y": int64 [B]}`. In training, with smoothing or mixing,
        y is [B, classes] of `dtype`; and for a model with dropout there is `"key"`, int32 [B, 2], a key of
        `vit.model.dropout.keys` per image.
    """
    size = config.image_size if config else train.image_size
    ops = _augmentation("x", train, test, size, pair, recipe)
    if recipe.soft_labels:
        ops += _soft_labels(_augmentation("partner", train, None, size, pair, recipe), config.num_classes, recipe)
    if recipe.mixes:
        ops.append(Delete(["partner", "partner_y"], mode="train"))
    if channels_first:
        ops.append(ChannelTranspose(inputs="x", outputs="x"))
    if dtype != "float32":
        ops.append(ToArray(inputs="x", outputs="x", dtype=dtype))
        if recipe.soft_labels:
            ops.append(ToArray(inputs="y", outputs="y", dtype=dtype, mode="train"))
    return SeededPipeline(train_data=Samples(train, recipe.seed, config, recipe.mixes),
                          eval_data=Samples(test, recipe.seed), batch_size=recipe.batch_size, ops=ops,
                          num_process=num_workers)


def _augmentation(key: str, train: Images, test: Images | None, size: int, pair: DataPair, recipe: Recipe) -> list:
    """The ops that make a normalized training image of `size` out of the one under `key`; those that do not draw
    run in evaluation as well, unless there is no `test`."""
    one, image = {"inputs": key, "outputs": key}, {"image_in": key, "image_out": key}
    every = "train" if test is None else None

    def own(function):
        """An op of ours that draws; `numpy.random` is seeded for each sample."""
        return LambdaOp(functools.partial(function, rng=np.random), mode="train", **one)

    def fit(images: Images, mode: str | None) -> list:
        """Nothing for images that have the size."""
        if images.image_size == size:
            return []
        share = 1.0 if images.image_size else recipe.eval_crop_pct
        return [LambdaOp(functools.partial(resizing.center_crop, size=size, crop_pct=share), mode=mode, **one)]

    ops = []
    if recipe.crop_scale_min:
        # INTER_AREA averages where it shrinks and interpolates linearly where it enlarges.
        ops.append(RandomResizedCrop(size, size, scale=(recipe.crop_scale_min, recipe.crop_scale_max),
                                     interpolation=cv2.INTER_AREA, mode="train", **image))
    else:
        ops += fit(train, "train")
    if test is not None:
        ops += fit(test, "!train")
    mean, std = normalization(pair, recipe)
    normalize = Normalize(mean=mean, std=std, mode=every, **one)
    policy = _policy(recipe)
    if policy is None:
        ops.append(normalize)
    if recipe.crop_padding:
        padded = size + 2 * recipe.crop_padding
        ops += [PadIfNeeded(min_height=padded, min_width=padded, mode="train", **image),
                RandomCrop(size, size, mode="train", **image)]
    if recipe.hflip_prob and pair.hflip:
        ops.append(Sometimes(HorizontalFlip(mode="train", **image), prob=recipe.hflip_prob))
    if policy is not None:  # it wants bytes
        ops += [own(policy), normalize]
    if recipe.cutout_size:
        ops.append(CoarseDropout(mode="train", max_holes=1, max_height=recipe.cutout_size,
                                 max_width=recipe.cutout_size, **one))
    if recipe.random_erasing_prob:
        ops.append(Sometimes(own(mixing.erase), prob=recipe.random_erasing_prob))
    return ops


def _policy(recipe: Recipe) -> Callable | None:
    """What the recipe augments an image's bytes with, if anything."""
    if recipe.augment == "none":
        return None
    if recipe.augment == "randaugment":
        return functools.partial(policies.randaugment, number=recipe.randaugment_number,
                                 magnitude=recipe.randaugment_magnitude, std=recipe.randaugment_std)
    return functools.partial(policies.autoaugment, policy=recipe.augment)


def _soft_labels(partner_ops: list, classes: int, recipe: Recipe) -> list:
    """The ops that make "y" a share of every class and, as often as the recipe mixes, mix "x" and "y" with the
    "partner", which is augmented only then."""
    def soften(key: str) -> LambdaOp:
        function = functools.partial(mixing.soft_label, classes=classes, smoothing=recipe.label_smoothing)
        return LambdaOp(function, inputs=key, outputs=key, mode="train")

    ops = [soften("y")]
    if recipe.mixes:
        mix = functools.partial(mixing.mix, mixup=recipe.mixup, cutmix=recipe.cutmix, rng=np.random)
        ops.append(Sometimes(Fuse([*partner_ops, soften("partner_y"),
                                   LambdaOp(mix, inputs=("x", "y", "partner", "partner_y"), outputs=("x", "y"),
                                            mode="train")]), prob=recipe.mixup_prob))
    return ops


class Samples(Dataset):
    """Images in an order of their own; FastEstimator's `fe_*` hooks carry (epoch, pass, index) to the workers."""

    def __init__(self, images: Images, seed: int, config: ViTConfig | None = None,
                 partners: bool = False) -> None:
        self.images, self.seed, self.config, self.partners = images, seed, config, partners
        self.begin_epoch(1)

    def __len__(self) -> int:
        return len(self.images)

    def begin_epoch(self, epoch: int, skipped: int = 0) -> None:
        self.epoch, self.skipped, self.position, self.order = epoch, skipped, skipped, None

    def fe_reset_ds(self, shuffle: bool) -> None:
        # FastEstimator says that a pass begins: the epoch's first, which may have been peeked into before, or the
        # next one, after as many samples as there are.
        self.shuffle = shuffle
        drawn = self.position - self.skipped
        if drawn % len(self):
            self.position = self.skipped
        self.order = None

    def fe_batch_indices(self, _: int) -> tuple[int, int, int]:
        round_, offset = divmod(self.position, len(self))
        if self.order is None or offset == 0:
            self.order = sample_order(self.seed, self.epoch, round_, len(self), self.shuffle)
        self.position += 1
        return self.epoch, round_, int(self.order[offset])

    def __getitem__(self, key: int | tuple[int, int, int]) -> dict:
        epoch, round_, index = key if isinstance(key, tuple) else (1, 0, key)
        seed = sample_seed(self.seed, epoch, round_, index)
        random.seed(seed)
        np.random.seed(seed)
        sample = {"x": self.images[index], "y": self.images.labels[index]}
        if self.partners:
            other = np.random.randint(len(self))
            sample |= {"partner": self.images[other], "partner_y": self.images.labels[other]}
        if self.config and dropout.sites(self.config):
            sample["key"] = dropout.keys(self.seed, epoch, round_, index)[0]
        return sample


class SeededPipeline(fe.Pipeline):
    """FastEstimator's Pipeline, which tells its dataset the epoch."""

    _skipped = (0, 0)

    def skip(self, epoch: int, batches: int) -> None:
        """Leave the first batches of one training epoch out, without preparing them: they were trained on."""
        self._skipped = (epoch, batches)

    def __enter__(self):
        epoch, batches = self._skipped
        skipped = batches * self.ctx_batch_size if (self.ctx_mode, self.ctx_epoch) == ("train", epoch) else 0
        if isinstance(self.ctx_dataset, Samples):
            self.ctx_dataset.begin_epoch(self.ctx_epoch, skipped)
        loader = super().__enter__()
        loader.fe_samples_to_yield -= skipped
        return loader
