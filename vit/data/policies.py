"""RandAugment and AutoAugment: chains of Pillow's operations, drawn from a generator or from a published table.

AutoAugment: Cubuk et al. 2019, tables 7 (CIFAR-10) and 9 (ImageNet). RandAugment: Cubuk et al. 2020. A strength is a
share of an operation's range, 0 to 1: a table's level n of 0 to 9 is n / 9, RandAugment's magnitude m is m / 10.
"""
import numpy as np

from vit.data.image_operations import SIGNED

RANDAUGMENT = ("Identity", "AutoContrast", "Equalize", "Rotate", "Solarize", "Color", "Posterize", "Contrast",
               "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY")

# Each row is one sub-policy: two operations with their probability and their level.
AUTOAUGMENT = {
    "autoaugment_cifar": (
        (("Invert", 0.1, 7), ("Contrast", 0.2, 6)),
        (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
        (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
        (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
        (("AutoContrast", 0.5, 8), ("Equalize", 0.9, 2)),
        (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
        (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
        (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
        (("Equalize", 0.6, 5), ("Equalize", 0.5, 1)),
        (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
        (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
        (("Equalize", 0.3, 7), ("AutoContrast", 0.4, 8)),
        (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
        (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
        (("Solarize", 0.5, 2), ("Invert", 0.0, 3)),
        (("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
        (("Equalize", 0.2, 8), ("Equalize", 0.6, 4)),
        (("Color", 0.9, 9), ("Equalize", 0.6, 6)),
        (("AutoContrast", 0.8, 4), ("Solarize", 0.2, 8)),
        (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
        (("Solarize", 0.4, 5), ("AutoContrast", 0.9, 3)),
        (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
        (("AutoContrast", 0.9, 2), ("Solarize", 0.8, 3)),
        (("Equalize", 0.8, 8), ("Invert", 0.1, 3)),
        (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 1)),
    ),
    "autoaugment_imagenet": (
        (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)),
        (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
        (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
        (("Posterize", 0.6, 7), ("Posterize", 0.6, 6)),
        (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
        (("Equalize", 0.4, 4), ("Rotate", 0.8, 8)),
        (("Solarize", 0.6, 3), ("Equalize", 0.6, 7)),
        (("Posterize", 0.8, 5), ("Equalize", 1.0, 2)),
        (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
        (("Equalize", 0.6, 8), ("Posterize", 0.4, 6)),
        (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
        (("Rotate", 0.4, 9), ("Equalize", 0.6, 2)),
        (("Equalize", 0.0, 7), ("Equalize", 0.8, 8)),
        (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
        (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
        (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
        (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
        (("Sharpness", 0.4, 7), ("Invert", 0.6, 8)),
        (("ShearX", 0.6, 5), ("Equalize", 1.0, 9)),
        (("Color", 0.4, 0), ("Equalize", 0.6, 3)),
        (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
        (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
        (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
        (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
        (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
    ),
}


def autoaugment(policy: str, rng: np.random.RandomState) -> list[tuple[str, float]]:
    """Draw the operations on one image: a sub-policy of a published table.

    Args:
        policy: A key of `AUTOAUGMENT`.
        rng: The generator to draw from.

    Returns:
        For each operation its name and its strength, as `apply` takes them.
    """
    table = AUTOAUGMENT[policy]
    return [(name, _signed(name, level / 9, rng)) for name, probability, level in table[rng.randint(len(table))]
            if rng.random_sample() < probability]


def randaugment(number: int, magnitude: float, std: float, rng: np.random.RandomState) -> list[tuple[str, float]]:
    """Draw the operations on one image, each anew.

    Args:
        number: Number of operations.
        magnitude: Their strength, 0 to 10.
        std: Standard deviation of the normal noise on each strength, which is then clipped to 0 to 10.
        rng: The generator to draw from.

    Returns:
        As of `autoaugment`.
    """
    operations = []
    for _ in range(number):
        name = RANDAUGMENT[rng.randint(len(RANDAUGMENT))]
        strength = min(max(rng.normal(magnitude, std) / 10, 0.0), 1.0)
        operations.append((name, _signed(name, strength, rng)))
    return operations


def _signed(name: str, strength: float, rng: np.random.RandomState) -> float:
    return -strength if name in SIGNED and rng.random_sample() < 0.5 else strength
