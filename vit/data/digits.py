"""`--data digits`: scikit-learn's bundled handwritten digits as two sets of 32x32 images; needs no network.

`digits100` shows two digits side by side, read as 00-99; `digits10` shows one. The 1,797 digits (Alpaydin & Kaynak
1998, 8x8 pixels, 17 grey levels) are split once; training images of both sets draw on one part and test images on
the other, so no digit of a test image was ever trained on.
"""
import cv2
import numpy as np

from vit.data.sets import DataPair, Dataset, Images

# The data sets are facts, not draws of a run: their seed is fixed and has nothing to do with --seed.
_SEED = 2021
_TEST_DIGITS = 360
_TRAIN_PAIRS, _TEST_PAIRS = 100, 20  # images of each of the 100 classes


def split() -> tuple[np.ndarray, np.ndarray]:
    """Which of scikit-learn's digits train and which test: two int64 arrays of indices."""
    from sklearn.datasets import load_digits
    order = np.random.default_rng(_SEED).permutation(len(load_digits().target))
    return order[_TEST_DIGITS:], order[:_TEST_DIGITS]


def pairs(indices: np.ndarray, labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Which two digits make each image of `digits100`.

    Args:
        indices: The digits to draw from.
        labels: Every digit's label.
        per_class: Images of each of the 100 classes.
        seed: Of the draw.

    Returns:
        int64 [100 * per_class, 2]: left and right digit; class `c` is at rows `c * per_class` and on.
    """
    rng = np.random.default_rng([_SEED, seed])
    by_digit = [indices[labels[indices] == digit] for digit in range(10)]
    return np.concatenate([
        np.stack([rng.choice(by_digit[number // 10], per_class), rng.choice(by_digit[number % 10], per_class)], axis=1)
        for number in range(100)
    ])


def load() -> DataPair:
    """The pair `digits100`, `digits10`."""
    from sklearn.datasets import load_digits
    bunch = load_digits()
    labels = bunch.target.astype(np.int64)
    grey = np.round(bunch.images * (255 / 16)).astype(np.uint8)  # n, 8, 8
    train, test = split()
    single = np.stack([_draw([digit]) for digit in grey])
    ten = Dataset("digits10", tuple(str(digit) for digit in range(10)),
                  train=Images(single[train], labels[train]), test=Images(single[test], labels[test]))

    def hundred(indices: np.ndarray, per_class: int, seed: int) -> Images:
        images = np.stack([_draw([grey[left], grey[right]]) for left, right in pairs(indices, labels, per_class, seed)])
        return Images(images, np.repeat(np.arange(100), per_class))

    return DataPair(
        pretrain=Dataset("digits100", tuple(f"{number:02d}" for number in range(100)),
                         train=hundred(train, _TRAIN_PAIRS, 0), test=hundred(test, _TEST_PAIRS, 1)),
        finetune=ten,
        mean=(0.2288, ) * 3,  # measured on digits100's training images
        std=(0.3084, ) * 3,
        mirror=False)


def _draw(digits: list[np.ndarray]) -> np.ndarray:
    """One or two digits, each 16 wide and 24 high, in the middle of a black 32x32x3 image."""
    canvas = np.zeros((32, 32), np.uint8)
    left = 16 - 8 * len(digits)
    for digit in digits:
        canvas[4:28, left:left + 16] = cv2.resize(digit, (16, 24), interpolation=cv2.INTER_LINEAR)
        left += 16
    return np.repeat(canvas[:, :, None], 3, axis=2)
