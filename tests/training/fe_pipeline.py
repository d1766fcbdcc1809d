"""The pipeline as it was before it worked by the batch: FastEstimator's own ops, one image at a time.

`vit/data/batches.py` is held to it, byte for byte (`test_batches_are_fastestimators_ops.py`), and
`benchmarks/pipeline.py` times both. It shares nothing with what it judges but the sets, the published tables and the
recipe.
"""
import functools
import math
import random
from collections.abc import Callable

import cv2
import numpy as np
from fe_compat import load_fastestimator
from PIL import Image, ImageEnhance, ImageOps

fe = load_fastestimator()

from fastestimator.op.numpyop import Delete, LambdaOp
from fastestimator.op.numpyop.meta import Fuse, Sometimes
from fastestimator.op.numpyop.multivariate import HorizontalFlip, PadIfNeeded, RandomCrop, RandomResizedCrop
from fastestimator.op.numpyop.univariate import ChannelTranspose, CoarseDropout, Normalize, ToArray
from torch.utils.data import Dataset

from vit.data.image_operations import FILL
from vit.data.policies import AUTOAUGMENT, RANDAUGMENT
from vit.data.sets import IMAGENET, DataPair, Images
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
        pair: Where both come from (mean, deviation, whether a horizontal flip keeps the class).
        recipe: Batch size, augmentation, seed.
        channels_first: Whether the framework wants [B, C, S, S]; else [B, S, S, C].
        num_workers: Processes that prepare batches; 0 prepares them in this one.
        dtype: Of the images and soft labels that leave: "float32" or, widened after all else, "float64".
        config: The model: its image size and its classes. None is a model for images as they are; it cannot have soft
            labels.

    Returns:
        A `fastestimator.Pipeline` of batches `{"x": images, "y": int64 [B]}`. In training, with smoothing or mixing,
        y is [B, classes] of `dtype`. What dropout needs is not in them.
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
    return SeededPipeline(train_data=Samples(train, recipe.seed, recipe.mixes),
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
        return [LambdaOp(functools.partial(center_crop, size=size, crop_pct=share), mode=mode, **one)]

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
        ops.append(Sometimes(own(erase), prob=recipe.random_erasing_prob))
    return ops


def _policy(recipe: Recipe) -> Callable | None:
    """What the recipe augments an image's bytes with, if anything."""
    if recipe.augment == "none":
        return None
    if recipe.augment == "randaugment":
        return functools.partial(randaugment, number=recipe.randaugment_number,
                                 magnitude=recipe.randaugment_magnitude, std=recipe.randaugment_std)
    return functools.partial(autoaugment, policy=recipe.augment)


def _soft_labels(partner_ops: list, classes: int, recipe: Recipe) -> list:
    """The ops that make "y" a share of every class and, as often as the recipe mixes, mix "x" and "y" with the
    "partner", which is augmented only then."""
    def soften(key: str) -> LambdaOp:
        function = functools.partial(soft_label, classes=classes, smoothing=recipe.label_smoothing)
        return LambdaOp(function, inputs=key, outputs=key, mode="train")

    ops = [soften("y")]
    if recipe.mixes:
        mixed = functools.partial(mix, mixup=recipe.mixup, cutmix=recipe.cutmix, rng=np.random)
        ops.append(Sometimes(Fuse([*partner_ops, soften("partner_y"),
                                   LambdaOp(mixed, inputs=("x", "y", "partner", "partner_y"), outputs=("x", "y"),
                                            mode="train")]), prob=recipe.mixup_prob))
    return ops


class Samples(Dataset):
    """Images in an order of their own; FastEstimator's `fe_*` hooks carry (epoch, pass, index) to the workers."""

    def __init__(self, images: Images, seed: int, partners: bool = False) -> None:
        self.images, self.seed, self.partners = images, seed, partners
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


def center_crop(image: np.ndarray, size: int, crop_pct: float) -> np.ndarray:
    """Cut a square out of the middle of an image, `crop_pct` times its shorter edge, and resize it.

    With crop_pct 0.875 and size 224 this is ImageNet's evaluation: the shorter edge to 256, then the middle 224 x 224.
    The filter is Pillow's bicubic one, which averages where it shrinks.

    Args:
        image: uint8 [h, w, 3].
        size: Height and width of the result, pixels.
        crop_pct: Share of the shorter edge, above 0 and at most 1.

    Returns:
        uint8 [size, size, 3].
    """
    height, width = image.shape[:2]
    half = crop_pct * min(height, width) / 2
    box = (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half)
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC, box))


_GRID = 2**24


def to_grid(shares: np.ndarray) -> np.ndarray:
    """Round shares that add up to 1 to multiples of 2**-24 that do so exactly; the largest takes the remainder.

    Args:
        shares: float64 [classes].

    Returns:
        float32 [classes].
    """
    whole = np.round(shares * _GRID)
    whole[whole.argmax()] += _GRID - whole.sum()
    return (whole / _GRID).astype(np.float32)


def soft_label(label: int, classes: int, smoothing: float) -> np.ndarray:
    """Return the label `1 - smoothing` for its class plus `smoothing` spread over all classes: float32 [classes]."""
    shares = np.full(classes, smoothing / classes)
    shares[label] += 1 - smoothing
    return to_grid(shares)


def mix(x: np.ndarray, y: np.ndarray, partner: np.ndarray, partner_y: np.ndarray, mixup: float, cutmix: float,
        rng: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Mix an image with its partner by mixup or CutMix; if both are on, toss a coin.

    Args:
        x: float32 [h, w, c].
        y: Its soft label, float32 [classes].
        partner: Another image.
        partner_y: Its soft label.
        mixup: Alpha of mixup, or 0.
        cutmix: Alpha of CutMix, or 0.
        rng: The generator to draw from: a RandomState, or the module `numpy.random` for the global one.

    Returns:
        The mixed image and its label.
    """
    if mixup and (not cutmix or rng.uniform() < 0.5):
        share = rng.beta(mixup, mixup)
        mixed = np.float32(share) * x + np.float32(1 - share) * partner
    else:
        rows, columns = _box(x.shape[:2], math.sqrt(1 - rng.beta(cutmix, cutmix)), rng)
        mixed = x.copy()
        mixed[rows, columns] = partner[rows, columns]
        share = 1 - mixed[rows, columns, 0].size / mixed[..., 0].size
    return mixed, to_grid(share * y.astype(np.float64) + (1 - share) * partner_y.astype(np.float64))


def _box(shape: tuple[int, int], scale: float, rng: np.random.RandomState) -> tuple[slice, slice]:
    """Rows and columns of a box of `scale` times the image's height and width, around a random pixel, cut off at the
    border."""
    slices = []
    for length in shape:
        center, half = rng.randint(length), int(scale * length) // 2
        slices.append(slice(max(center - half, 0), min(center + half, length)))
    return slices[0], slices[1]


def erase(x: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Fill a rectangle of 2 % to 1/3 of a normalized image, of aspect 0.3 to 1 / 0.3, with standard normal noise.

    As in DeiT. After ten rectangles that do not fit, the image stays as it is.

    Args:
        x: float32 [h, w, c].
        rng: As in `mix`.

    Returns:
        float32 [h, w, c].
    """
    height, width, channels = x.shape
    for _ in range(10):
        area = height * width * rng.uniform(0.02, 1 / 3)
        aspect = math.exp(rng.uniform(math.log(0.3), -math.log(0.3)))
        rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < rows < height and 0 < columns < width:
            top, left = rng.randint(height - rows + 1), rng.randint(width - columns + 1)
            x = x.copy()
            x[top:top + rows, left:left + columns] = rng.normal(size=(rows, columns, channels))
            break
    return x


_SHEAR, _SHIFT, _DEGREES, _ENHANCE, _BITS = 0.3, 150 / 331, 30.0, 0.9, 4
_SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")


def autoaugment(image: np.ndarray, policy: str, rng: np.random.RandomState) -> np.ndarray:
    """Apply one sub-policy of a published table, drawn anew for each image.

    Args:
        image: uint8 [h, w, 3].
        policy: A key of `AUTOAUGMENT`.
        rng: The generator to draw from: a RandomState, or the module `numpy.random` for the global one.

    Returns:
        uint8 [h, w, 3].
    """
    table = AUTOAUGMENT[policy]
    pil = Image.fromarray(image)
    for name, probability, level in table[rng.randint(len(table))]:
        if rng.uniform() < probability:
            pil = apply(pil, name, _signed(name, level / 9, rng))
    return np.asarray(pil)


def randaugment(image: np.ndarray, number: int, magnitude: float, std: float,
                rng: np.random.RandomState) -> np.ndarray:
    """Apply some operations one after the other, each drawn anew.

    Args:
        image: uint8 [h, w, 3].
        number: Number of operations.
        magnitude: Their strength, 0 to 10.
        std: Standard deviation of the normal noise on each strength, which is then clipped to 0 to 10.
        rng: As in `autoaugment`.

    Returns:
        uint8 [h, w, 3].
    """
    pil = Image.fromarray(image)
    for _ in range(number):
        name = RANDAUGMENT[rng.randint(len(RANDAUGMENT))]
        strength = min(max(rng.normal(magnitude, std) / 10, 0.0), 1.0)
        pil = apply(pil, name, _signed(name, strength, rng))
    return np.asarray(pil)


def _signed(name: str, strength: float, rng: np.random.RandomState) -> float:
    return -strength if name in _SIGNED and rng.uniform() < 0.5 else strength


def apply(pil: Image.Image, name: str, strength: float) -> Image.Image:
    """Apply one operation.

    Args:
        pil: An RGB image.
        name: The operation.
        strength: Share of its range, 0 to 1; a signed operation goes the other way (left, darker ...) down to -1.

    Raises:
        ValueError: There is no such operation.
    """
    width, height = pil.size
    match name:
        case "Identity":
            return pil
        case "ShearX":
            return _move(pil, (1, _SHEAR * strength, 0, 0, 1, 0))
        case "ShearY":
            return _move(pil, (1, 0, 0, _SHEAR * strength, 1, 0))
        case "TranslateX":
            return _move(pil, (1, 0, _SHIFT * strength * width, 0, 1, 0))
        case "TranslateY":
            return _move(pil, (1, 0, 0, 0, 1, _SHIFT * strength * height))
        case "Rotate":
            return pil.rotate(_DEGREES * strength, Image.Resampling.BILINEAR, fillcolor=FILL)
        case "Brightness" | "Color" | "Contrast" | "Sharpness":
            return getattr(ImageEnhance, name)(pil).enhance(1 + _ENHANCE * strength)
        case "Posterize":
            return ImageOps.posterize(pil, 8 - round(_BITS * strength))
        case "Solarize":
            return ImageOps.solarize(pil, 255 - 255 * strength)
        case "AutoContrast":
            return ImageOps.autocontrast(pil)
        case "Equalize":
            return ImageOps.equalize(pil)
        case "Invert":
            return ImageOps.invert(pil)
    raise ValueError(f"{name} is no operation")


def _move(pil: Image.Image, matrix: tuple) -> Image.Image:
    return pil.transform(pil.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=FILL)
