"""The batches of a set: arrays that are a function of (seed, epoch, pass, sample), whoever asks for them."""
import random
from dataclasses import dataclass

import numpy as np

from vit.data import cropping, mixing, resizing
from vit.data.augmentation import Augmentation, Draws, normalized
from vit.data.quick_random import QuickRandomState
from vit.data.seeds import sample_seeds
from vit.data.sets import Images


@dataclass(frozen=True)
class Labels:
    """What becomes of training labels, and which images are mixed.

    Args:
        classes: How many there are.
        smoothing: Share of a label that is spread evenly over all classes.
        mixup: Alpha of mixup, or 0.
        cutmix: Alpha of CutMix, or 0.
        mixup_prob: Probability that an image is mixed, where one of the two is on.
    """
    classes: int
    smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mixup_prob: float = 1.0

    @property
    def mixes(self) -> bool:
        """Whether images are mixed at all."""
        return bool(self.mixup or self.cutmix) and self.mixup_prob > 0


@dataclass
class Batches:
    """A set as batches of images, normalized, or as the device is to normalize them.

    Args:
        images: The set: `Images`, `FolderImages` or `ShardImages`.
        augmentation: What training images go through; its size is that of all images that leave.
        mean: Of each channel, of pixels / 255.
        std: Likewise.
        seed: Of all that is random.
        labels: What becomes of training labels; None leaves them classes.
        crop_pct: Of an image of another size, the share of its shorter edge in the square that is cut out of its
            middle and resized.
        channels_first: Whether normalized images leave as [B, 3, S, S]; else [B, S, S, 3].
        dtype: Of the normalized images and soft labels that leave; they are computed in float32.
        on_device: Whether the device normalizes: images leave as uint8 [B, S, S, 3], unless mixing or random erasing
            makes them float before.
    """
    images: Images
    augmentation: Augmentation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    seed: int = 0
    labels: Labels | None = None
    crop_pct: float = 1.0
    channels_first: bool = True
    dtype: str = "float32"
    on_device: bool = False

    def __post_init__(self) -> None:
        self.generators = random.Random(0), QuickRandomState()

    @property
    def trains_on_pixels(self) -> bool:
        """Whether training images leave as uint8."""
        mixes = self.labels is not None and self.labels.mixes
        return self.on_device and not mixes and not self.augmentation.random_erasing_prob

    @property
    def has_holes(self) -> bool:
        """Whether training batches say where the device has to cut squares out."""
        return self.trains_on_pixels and bool(self.augmentation.cutout_size)

    def evaluation(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Make a batch of images as they are.

        Args:
            indices: Which samples, [B].

        Returns:
            "x", images, and "y", int64 [B].
        """
        x = self._middles(indices)
        if not self.on_device:
            x = self._leave(normalized(x, self.mean, self.std, self.channels_first))
        return {"x": x, "y": self.images.labels[indices]}

    def training(self, epoch: int, rounds: np.ndarray | int, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Make a batch of augmented images.

        Args:
            epoch: Which epoch, from 1.
            rounds: Which pass within the epoch each sample is seen in, from 0; one for all, or [B].
            indices: Which samples, [B].

        Returns:
            "x", images; "y": int64 [B], or soft labels [B, classes]; and, for the device, "holes": the upper left
            corners of the squares to cut out, int64 [B, 2].
        """
        (python, numpy), labels = self.generators, self.labels
        begin = super(random.Random, python).seed  # of the C type, without Random's look at the seed's type
        own, partners = (_Drawn(self, python, numpy) for _ in range(2))
        places, mixes = [], []
        seeds = sample_seeds(self.seed, epoch, rounds, indices)
        for place, (seed, index) in enumerate(zip(seeds.tolist(), indices.tolist(), strict=True)):
            begin(seed)
            numpy.seed(seed)
            other = numpy.randint(len(self.images)) if labels and labels.mixes else None
            own.add(index)
            if other is not None and numpy.random_sample() < labels.mixup_prob:
                partners.add(other)
                places.append(place)
                mixes.append(mixing.draw_mix(self.augmentation.size, labels.mixup, labels.cutmix, numpy))
        x = own.pixels() if self.trains_on_pixels else own.images()
        y = self.images.labels[indices]
        if labels:
            y = mixing.soft_labels(y, labels.classes, labels.smoothing)
            if places:
                partner_y = mixing.soft_labels(self.images.labels[partners.indices], labels.classes, labels.smoothing)
                mixing.mix(x, y, places, partners.images(), partner_y, mixes)
            y = y.astype(self.dtype, copy=False)
        if not self.trains_on_pixels:
            x = self._leave(x)
        return {"x": x, "y": y} | ({"holes": np.array(own.draws.holes)} if self.has_holes else {})

    def _middles(self, indices: np.ndarray | list[int]) -> np.ndarray:
        """The images, or a square out of the middle of each: uint8 [n, S, S, 3]."""
        size = self.augmentation.size
        if self.images.image_size == size:
            return self.images.images[indices]
        return np.stack([resizing.center_crop(self.images[index], size, self.crop_pct) for index in indices])

    def _leave(self, x: np.ndarray) -> np.ndarray:
        x = x.transpose(0, 3, 1, 2) if self.channels_first else x
        return x.astype(self.dtype, copy=False)


class _Drawn:
    """Some images of a batch, and what was drawn for them."""

    def __init__(self, batches: Batches, python: random.Random, numpy: np.random.RandomState) -> None:
        self.batches, self.draws = batches, Draws(batches.augmentation, python, numpy)
        self.indices, self.parts = [], []

    def add(self, index: int) -> None:
        self.indices.append(index)
        if self.batches.augmentation.crop_scale:  # it depends on the image's size: read it now, and keep only the part
            image = self.batches.images[index]
            box = self.draws.box(*image.shape[:2])
            self.parts.append(cropping.resized(image, box, self.batches.augmentation.size))
        self.draws.add()

    def pixels(self) -> np.ndarray:
        """Before normalization, cutout and random erasing: uint8 [n, S, S, 3]."""
        return self.draws.move(self._sources())

    def images(self) -> np.ndarray:
        """Float32 [n, S, S, 3]."""
        batches = self.batches
        return self.draws.apply(self._sources(), batches.mean, batches.std, batches.channels_first)

    def _sources(self) -> np.ndarray:
        return np.stack(self.parts) if self.parts else self.batches._middles(self.indices)
