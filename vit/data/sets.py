"""What every data source delivers: images with labels, a train and a test part, and a pair of sets."""
from dataclasses import dataclass

import numpy as np

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and deviation of its channels, as fractions of 255


@dataclass(frozen=True)
class Images:
    """Labelled images.

    Args:
        images: uint8 [n, side, side, 3], channels last.
        labels: int64 [n], in 0..len(classes)-1.
    """
    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.images[index]

    def take(self, indices: np.ndarray) -> "Images":
        """Some of the images."""
        return Images(self.images[indices], self.labels[indices])

    @property
    def image_size(self) -> int | None:
        """Size of every image, pixels; None where they have many sizes."""
        return self.images.shape[1]


@dataclass(frozen=True)
class Dataset:
    """One classification set: its name, its class names, and its two parts."""
    name: str
    classes: tuple[str, ...]
    train: Images
    test: Images


@dataclass(frozen=True)
class DataPair:
    """A set to pretrain on, a set to finetune on, and what the augmentation must know of both.

    Args:
        pretrain: The set with many classes; None where there is only one set, to finetune on.
        finetune: The set whose model starts from the pretrained encoder.
        mean: Mean of each channel, as a fraction of 255.
        std: Standard deviation of each channel, as a fraction of 255.
        mirror: Whether a mirrored image still shows its class (a mirrored digit does not).
    """
    pretrain: Dataset | None
    finetune: Dataset
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    mirror: bool
