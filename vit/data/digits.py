"""`--data digits`: scikit-learn's bundled handwritten digits as two sets of 32x32 images; needs no network.

`digits100` shows two digits next to each other, read as 00-99; `digits10` shows one. The 1,797 digits (Alpaydin &
Kaynak 1998, 8x8 pixels, 17 grey levels) are split once: the training images of both sets are made of one part and the
test images of the other, so no digit of a test image was ever trained on.
"""
import functools
import gzip
import importlib.util
from pathlib import Path

import cv2
import numpy as np

from vit.data.sets import OF_DATA, DataPair, Dataset, Images

# The sets are the same in every run: their seed is fixed and has nothing to do with --seed.
_SEED = 2021
_TEST_DIGITS = 360
_TRAIN_PAIRS, _TEST_PAIRS = 100, 20  # images of each of the 100 classes


@functools.cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Read scikit-learn's digits: images [n, 8, 8] of 0 to 16, and labels [n]."""
    found = importlib.util.find_spec("sklearn")
    file = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz" if found and found.origin else None
    if file is None or not file.is_file():
        from sklearn.datasets import load_digits  # here: its import takes longer than all else that is done here
        bunch = load_digits()
        return bunch.images, bunch.target
    with gzip.open(file) as stream:
        rows = np.loadtxt(stream, delimiter=",")
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)


def split() -> tuple[np.ndarray, np.ndarray]:
    """Split scikit-learn's digits: the indices of those to train on and of those to test on, two int64 arrays."""
    order = np.random.default_rng(_SEED).permutation(len(_digits()[1]))
    return order[_TEST_DIGITS:], order[:_TEST_DIGITS]


def pairs(indices: np.ndarray, labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Draw the two digits of each image of `digits100`.

    Args:
        indices: The digits to draw from.
        labels: The label of every digit.
        per_class: Images of each of the 100 classes.
        seed: Seed of the draw.

    Returns:
        int64 [100 * per_class, 2]: left and right digit; the rows of class c begin at `c * per_class`.
    """
    rng = np.random.default_rng([_SEED, seed])
    by_digit = [indices[labels[indices] == digit] for digit in range(10)]
    return np.concatenate([
        np.stack([rng.choice(by_digit[number // 10], per_class), rng.choice(by_digit[number % 10], per_class)], axis=1)
        for number in range(100)
    ])


def load() -> DataPair:
    """Make the pair `digits100`, `digits10`."""
    images, labels = _digits()
    labels = labels.astype(np.int64)
    grey = np.round(images * (255 / 16)).astype(np.uint8)  # n, 8, 8
    drawn = np.stack([cv2.resize(digit, (16, 24), interpolation=cv2.INTER_LINEAR) for digit in grey])
    drawn = np.repeat(drawn[..., None], 3, axis=-1)
    train, test = split()
    single = _canvas(drawn[:, None])
    ten = Dataset("digits10", tuple(str(digit) for digit in range(10)),
                  train=Images(single[train], labels[train]), test=Images(single[test], labels[test]))

    def hundred(indices: np.ndarray, per_class: int, seed: int) -> Images:
        return Images(_canvas(drawn[pairs(indices, labels, per_class, seed)]), np.repeat(np.arange(100), per_class))

    mean, std = OF_DATA["digits"]
    return DataPair(
        pretrain=Dataset("digits100", tuple(f"{number:02d}" for number in range(100)),
                         train=hundred(train, _TRAIN_PAIRS, 0), test=hundred(test, _TEST_PAIRS, 1)),
        finetune=ten,
        mean=mean,
        std=std,
        hflip=False)


def _canvas(digits: np.ndarray) -> np.ndarray:
    """Put one or two drawn digits [n, 1 or 2, 24, 16, 3] in the middle of black images [n, 32, 32, 3]."""
    images = np.zeros((len(digits), 32, 32, 3), np.uint8)
    left = 16 - 8 * digits.shape[1]
    for place in range(digits.shape[1]):
        images[:, 4:28, left + 16 * place:left + 16 * (place + 1)] = digits[:, place]
    return images
