"""FastEstimator's Pipeline with randomness as a function: of (seed, epoch, sample), never of a worker or a state.

FastEstimator sees a dataset whose items are whole batches. The dataset says which samples each batch holds, and
`vit/data/batches.py` makes arrays of them, from (seed, epoch, pass, index) alone; so the batches are the same bytes for
any number of processes that prepare them, and epoch 7 can be had without the six before it. Of several workers that
train together, each makes its share of every batch, and all shares are the one batch.
"""
import math
from types import ModuleType

import numpy as np
from fe_compat import load_fastestimator

fe = load_fastestimator()

from fastestimator.op.numpyop import Batch
from fastestimator.op.tensorop.tensorop import LambdaOp
from torch.utils.data import Dataset, default_convert

from vit.data.augmentation import Augmentation, table
from vit.data.batches import Batches, Labels
from vit.data.seeds import sample_order
from vit.data.sets import NORMALIZATIONS, DataPair, Images
from vit.data.share import WHOLE, Share
from vit.model import dropout
from vit.model.config import ViTConfig
from vit.training.recipe import Recipe


def normalization(pair: DataPair, recipe: Recipe) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel, as fractions of 255, that a recipe takes off."""
    if recipe.normalize == "data":
        return pair.mean, pair.std
    return NORMALIZATIONS[recipe.normalize]


def build(train: Images, test: Images, pair: DataPair, recipe: Recipe, channels_first: bool,
          num_workers: int = 0, dtype: str = "float32", config: ViTConfig | None = None, on_device: bool = False,
          share: Share = WHOLE, epochs: int | None = None):
    """The pipeline of one stage: the recipe's augmentation over `train`, and nothing but resizing over `test`.

    Args:
        train: Training images.
        test: Evaluation images.
        pair: Where both come from (mean, deviation, whether a horizontal flip keeps the class).
        recipe: Batch size, augmentation, seed.
        channels_first: Whether the framework wants [B, C, S, S]; else [B, S, S, C].
        num_workers: Processes that prepare batches; 0 prepares them in this one.
        dtype: Of the images and soft labels that leave: "float32" or, widened after all else, "float64".
        config: The model: its image size, its classes, and whether it has dropout, which needs keys. None is a model
            without dropout for images as they are; it cannot have soft labels.
        on_device: Whether images leave as uint8 where they can, for the ops of `normalizing` to normalize.
        share: Which part of each batch this process takes; by default, all of it.
        epochs: How many the stage has, where the recipe shall say which of them are evaluated; None evaluates each.

    Returns:
        A `fastestimator.Pipeline` of batches `{"x": images, "y": int64 [B]}`. In training, with smoothing or mixing,
        y is [B, classes] of `dtype`; and for a model with dropout there is `"key"`, int32 [B, 2], a key of
        `vit.model.dropout.keys` per image; for one with a decoder in evaluations too. Where x is uint8,
        [B, S, S, C], there may be `"holes"`, int64 [B, 2], of which the ops know. Of a share there is `"weight"`, [B]
        of `dtype`: of the whole batch's mean.
    """
    size = config.image_size if config else train.image_size
    mean, std = normalization(pair, recipe)

    def batches(images: Images, **training) -> Batches:
        return Batches(images, mean=tuple(mean), std=tuple(std), channels_first=channels_first, dtype=dtype,
                       crop_pct=1.0 if images.image_size else recipe.eval_crop_pct, on_device=on_device,
                       **training)

    augmented = batches(train, augmentation=_augmentation(size, pair, recipe), seed=recipe.seed,
                        labels=_labels(config, recipe) if recipe.soft_labels else None)
    line = SeededPipeline(train_data=BatchDataset(augmented, recipe, config, share),
                          eval_data=BatchDataset(batches(test, augmentation=Augmentation(size)), recipe, config,
                                                 share),
                          batch_size=recipe.batch_size, ops=Batch(collate_fn=default_convert),
                          num_process=num_workers)
    line.recipe, line.epochs = recipe, epochs
    return line


def normalizing(line: "SeededPipeline", backend: ModuleType) -> list:
    """List the ops that a network begins with: none, or what normalizes on its device the images that are uint8 yet.

    Args:
        line: The pipeline, as `build` made it.
        backend: The framework's, of `vit/backend/`.
    """
    train, test = (line.data[mode][""].batches for mode in ("train", "eval"))
    if not test.on_device:
        return []
    size, cutout_size = train.augmentation.size, train.augmentation.cutout_size
    normalize = backend.Normalize(table(train.mean, train.std).astype(train.dtype), size, cutout_size)
    ops = [LambdaOp(fn=normalize, inputs="x", outputs="x", mode="!train")]
    if train.trains_on_pixels:
        ops.append(LambdaOp(fn=normalize, inputs=("x", "holes") if train.has_holes else "x", outputs="x", mode="train"))
    return ops


def _augmentation(size: int, pair: DataPair, recipe: Recipe) -> Augmentation:
    return Augmentation(
        size=size,
        crop_scale=(recipe.crop_scale_min, recipe.crop_scale_max) if recipe.crop_scale_min else None,
        crop_padding=recipe.crop_padding,
        hflip_prob=recipe.hflip_prob if pair.hflip else 0.0,
        policy=recipe.augment,
        randaugment=(recipe.randaugment_number, recipe.randaugment_magnitude, recipe.randaugment_std),
        cutout_size=recipe.cutout_size,
        random_erasing_prob=recipe.random_erasing_prob)


def _labels(config: ViTConfig, recipe: Recipe) -> Labels:
    return Labels(config.num_classes, recipe.label_smoothing, recipe.mixup, recipe.cutmix, recipe.mixup_prob)


class BatchDataset(Dataset):
    """Batches in an order of their own; FastEstimator's `fe_*` hooks carry (epoch, passes, indices) to the workers.

    Args:
        batches: What makes arrays of indices.
        recipe: Batch size and seed.
        config: The model, where its dropout or its decoder needs keys.
        share: Which part of each batch this process takes.
    """
    fe_batch = 1  # tells FastEstimator that an item is a batch

    def __init__(self, batches: Batches, recipe: Recipe, config: ViTConfig | None = None,
                 share: Share = WHOLE) -> None:
        self.batches, self.recipe, self.config, self.share = batches, recipe, config, share
        self.begin_epoch(True, 1)

    def begin_epoch(self, training: bool, epoch: int, steps: int | None = None, skipped: int = 0) -> None:
        """Set what the next items are: an epoch's batches, of one pass over the set or of `steps`, without some."""
        self.training, self.epoch, self.first = training, epoch, skipped
        self.samples = steps * self.recipe.batch_size if steps else len(self.batches.images)
        self.orders = {}

    def __len__(self) -> int:
        return math.ceil(self.samples / self.recipe.batch_size) - self.first

    def fe_reset_ds(self, shuffle: bool) -> None:
        self.shuffle, self.next = shuffle, self.first

    def fe_batch_indices(self, _: int) -> tuple[bool, int, np.ndarray, np.ndarray, np.ndarray]:
        start = self.next * self.recipe.batch_size
        self.next += 1
        places, weights = self.share.take(min(self.recipe.batch_size, self.samples - start))
        positions = start + places
        rounds, offsets = np.divmod(positions, len(self.batches.images))
        indices = np.concatenate([self._order(round_)[offsets[rounds == round_]] for round_ in np.unique(rounds)])
        return self.training, self.epoch, rounds, indices, weights

    def _order(self, round_: int) -> np.ndarray:
        if round_ not in self.orders:
            kept = {known: order for known, order in self.orders.items() if known == round_ - 1}
            order = sample_order(self.recipe.seed, self.epoch, round_, len(self.batches.images), self.shuffle)
            self.orders = kept | {round_: order}
        return self.orders[round_]

    def __getitem__(self, key: int | tuple[bool, int, np.ndarray, np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
        if not isinstance(key, tuple):  # FastEstimator asks for item 0 to see what is in a batch
            key = self.training, 1, np.array([0]), np.array([key]), np.array([1.0])
        training, epoch, rounds, indices, weights = key
        batch = self.batches.training(epoch, rounds, indices) if training else self.batches.evaluation(indices)
        if self.share.size > 1:
            batch["weight"] = weights.astype(self.batches.dtype)
        if self.config and not training and not self.config.has_head:
            batch["key"] = dropout.keys(self.recipe.seed, 0, 0, indices)  # the same patches in each evaluation
        elif training and self.config and dropout.sites(self.config):
            batch["key"] = np.concatenate([
                dropout.keys(self.recipe.seed, epoch, int(round_), indices[rounds == round_])
                for round_ in np.unique(rounds)])  # rounds only rise, so these are in order
        return batch


class SeededPipeline(fe.Pipeline):
    """FastEstimator's Pipeline, which tells its dataset the epoch, and evaluates after some epochs only."""

    _skipped = (0, 0)
    recipe = epochs = None

    def get_modes(self, epoch: int | None = None) -> set[str]:
        """Say what there is data for, in one epoch or at all: an epoch without evaluation has only training."""
        modes = super().get_modes(epoch)
        evaluated = epoch is None or self.epochs is None or self.recipe.evaluates(epoch, self.epochs)
        return modes if evaluated else modes - {"eval"}

    def skip(self, epoch: int, batches: int) -> None:
        """Leave the first batches of one training epoch out, without preparing them: they were trained on."""
        self._skipped = (epoch, batches)

    def __enter__(self):
        data, (epoch, batches) = self.ctx_dataset, self._skipped
        if not isinstance(data, BatchDataset):
            return super().__enter__()
        skipped = batches if (self.ctx_mode, self.ctx_epoch) == ("train", epoch) else 0
        data.begin_epoch(self.ctx_mode == "train", self.ctx_epoch, self.ctx_steps_per_epoch, skipped)
        loader = super().__enter__()
        loader.fe_samples_to_yield = len(data)  # of items, which are batches; FastEstimator counts the skipped as well
        return loader
