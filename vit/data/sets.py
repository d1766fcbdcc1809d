"""What every source of data delivers: labelled images, a set with a train and a test part, and a pair of sets."""
from dataclasses import dataclass

import numpy as np

# Mean and standard deviation of each channel, of pixels / 255: as recipes name them, and of the data that --data names.
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMALIZATIONS = {"imagenet": IMAGENET, "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))}
_CIFAR = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
OF_DATA = {"digits": ((0.2288, ) * 3, (0.3084, ) * 3),  # measured on digits100's training images
           "cifar": _CIFAR, "cifair": _CIFAR, "folder": IMAGENET, "arrays": IMAGENET}


@dataclass(frozen=True)
class Images:
    """Labelled images.

    Args:
        images: uint8 [n, size, size, 3], channels last.
        labels: int64 [n], in 0..len(classes)-1.
    """
    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.images[index]

    def take(self, indices: np.ndarray) -> "Images":
        """Return some of the images, in the order of the indices."""
        return Images(self.images[indices], self.labels[indices])

    @property
    def image_size(self) -> int | None:
        """Height and width of every image, pixels; None where they differ."""
        return self.images.shape[1]


@dataclass(frozen=True)
class Dataset:
    """One classification set.

    Args:
        name: Its name.
        classes: Names of its classes, in the order of the labels.
        train: The images to train on.
        test: The images to test on; there may be none where `val` has some.
        val: Images that were set apart from those to train on, to choose by; None where there are no such.
    """
    name: str
    classes: tuple[str, ...]
    train: Images
    test: Images
    val: Images | None = None

    @property
    def evaluation(self) -> Images:
        """The images that each epoch is evaluated on."""
        return self.test if self.val is None else self.val

    @property
    def evaluated_on(self) -> str:
        """What `evaluation` is: "test" or "validation" images."""
        return "test" if self.val is None else "validation"


@dataclass(frozen=True)
class DataPair:
    """A set to pretrain on, a set to finetune on, and what the augmentation must know of both.

    Args:
        pretrain: The set with many classes; None where there is only a set to finetune on.
        finetune: The set whose model starts from the pretrained encoder.
        mean: Mean of each channel, of pixels / 255.
        std: Standard deviation of each channel, of pixels / 255.
        hflip: Whether an image that is flipped horizontally still shows its class (a digit does not).
    """
    pretrain: Dataset | None
    finetune: Dataset
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    hflip: bool
