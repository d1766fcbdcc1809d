"""FastEstimator's Pipeline with randomness as a function: of (seed, epoch, sample), never of a worker or a state.

FastEstimator's ops draw from the global generators of `random` and `numpy`. Here the dataset seeds both before each
sample's ops, from (seed, epoch, pass, index), and decides the order itself; so the batches are the same bytes for any
number of workers, and epoch 7 can be had without the six before it.
"""
import functools
import random

import numpy as np

from vit import masks
from vit.config import ViTConfig
from vit.data.pictures import DataPair, Pictures
from vit.fe_compat import load_fastestimator
from vit.recipe import Recipe


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


def build(train: Pictures, test: Pictures, pair: DataPair, recipe: Recipe, channels_first: bool,
          num_workers: int = 0, dtype: str = "float32", config: ViTConfig | None = None):
    """The pipeline of one stage: apphub's ops over `train`, and the same without augmentation over `test`.

    Args:
        train: Training pictures.
        test: Evaluation pictures.
        pair: Where both come from (mean, deviation, whether mirroring keeps the class).
        recipe: Batch size, augmentation, seed.
        channels_first: Whether the framework wants [B, C, S, S]; else [B, S, S, C].
        num_workers: Processes that prepare batches; 0 prepares them in this one.
        dtype: Of the pictures that leave: "float32" or, widened after all else, "float64".
        config: The model, if its dropout needs masks.

    Returns:
        A `fastestimator.Pipeline` of batches `{"x": pictures, "y": int64 [B]}`; for a model with dropout, those of
        the training hold `"masks"` as well, uint8 [B, flags], one row of `vit.masks.draw` per picture.
    """
    load_fastestimator()
    from fastestimator.op.numpyop.meta import Sometimes
    from fastestimator.op.numpyop.multivariate import HorizontalFlip, PadIfNeeded, RandomCrop
    from fastestimator.op.numpyop.univariate import ChannelTranspose, CoarseDropout, Normalize, ToArray

    Pipeline, Samples = _classes()
    side = train.images.shape[1]
    ops = [Normalize(inputs="x", outputs="x", mean=pair.mean, std=pair.std)]
    if recipe.pad:
        padded = side + 2 * recipe.pad
        ops += [PadIfNeeded(min_height=padded, min_width=padded, image_in="x", image_out="x", mode="train"),
                RandomCrop(side, side, image_in="x", image_out="x", mode="train")]
    if recipe.mirror_rate and pair.mirror:
        ops.append(Sometimes(HorizontalFlip(image_in="x", image_out="x", mode="train"), prob=recipe.mirror_rate))
    if recipe.hole:
        ops.append(CoarseDropout(inputs="x", outputs="x", mode="train", max_holes=1, max_height=recipe.hole,
                                 max_width=recipe.hole))
    if channels_first:
        ops.append(ChannelTranspose(inputs="x", outputs="x"))
    if dtype != "float32":
        ops.append(ToArray(inputs="x", outputs="x", dtype=dtype))
    return Pipeline(train_data=Samples(train, recipe.seed, config), eval_data=Samples(test, recipe.seed),
                    batch_size=recipe.batch_size, ops=ops, num_process=num_workers)


@functools.cache
def _classes():
    """The two classes that need FastEstimator, made when it is there: importing this module imports no framework."""
    import fastestimator
    from torch.utils.data import Dataset

    class SeededPipeline(fastestimator.Pipeline):
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

    class Samples(Dataset):
        """Pictures in an order of their own; FastEstimator's `fe_*` hooks carry (epoch, pass, index) to the workers."""

        def __init__(self, pictures: Pictures, seed: int, config: ViTConfig | None = None) -> None:
            self.pictures, self.seed, self.config = pictures, seed, config
            self.begin_epoch(1)

        def __len__(self) -> int:
            return len(self.pictures)

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
            round_, place = divmod(self.position, len(self))
            if self.order is None or place == 0:
                self.order = sample_order(self.seed, self.epoch, round_, len(self), self.shuffle)
            self.position += 1
            return self.epoch, round_, int(self.order[place])

        def __getitem__(self, key: int | tuple[int, int, int]) -> dict:
            epoch, round_, index = key if isinstance(key, tuple) else (1, 0, key)
            seed = sample_seed(self.seed, epoch, round_, index)
            random.seed(seed)
            np.random.seed(seed)
            sample = {"x": self.pictures.images[index], "y": self.pictures.labels[index]}
            if self.config and masks.sites(self.config):
                sample["masks"] = masks.draw(self.config, self.seed, epoch, round_, index)
            return sample

    return SeededPipeline, Samples
