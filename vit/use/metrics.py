"""What an evaluation counts: accuracy, cross entropy, calibration, and which class is taken for which."""
from dataclasses import dataclass

import numpy as np

from vit.training.history import count_top
from vit.use.classifier import probabilities

BINS = 15


@dataclass
class Metrics:
    """Sums over the batches of an evaluation; `add` takes a batch.

    Args:
        classes: How many there are.
    """
    classes: int

    def __post_init__(self) -> None:
        self.count, self.loss, self.top5 = 0, 0.0, 0
        self.confusion = np.zeros((self.classes, self.classes), np.int64)  # by label, by guess
        self.bins = np.zeros((BINS, 3))  # images, the sum of their confidences, and how many are right

    def add(self, logits: np.ndarray, labels: np.ndarray) -> None:
        """Count a batch.

        Args:
            logits: [B, classes].
            labels: int64 [B].
        """
        all_, guesses = probabilities(logits), logits.argmax(axis=1)
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        own = shifted[np.arange(len(labels)), labels]
        self.loss += float((np.log(np.exp(shifted).sum(axis=1)) - own).sum())
        self.count += len(labels)
        self.top5 += count_top(logits, labels)
        np.add.at(self.confusion, (labels, guesses), 1)
        confidence = all_.max(axis=1)
        places = np.minimum((confidence * BINS).astype(int), BINS - 1)
        np.add.at(self.bins, places, np.stack([np.ones(len(labels)), confidence, guesses == labels], axis=1))

    def result(self) -> dict:
        """Give the figures: "images", "top1", "top5", "loss" and "calibration_error".

        The last is the expected calibration error over 15 bins of equal width (Guo et al. 2017, section 2): the mean
        distance between a bin's confidence and its accuracy.
        """
        distance = np.abs(self.bins[:, 1] - self.bins[:, 2]).sum()
        return {"images": self.count, "top1": np.trace(self.confusion).item() / self.count,
                "top5": self.top5 / self.count, "loss": self.loss / self.count,
                "calibration_error": float(distance) / self.count}

    def per_class(self, names: tuple[str, ...]) -> list[dict]:
        """Give a row for each class: its images, and the recall and the precision with which it is found."""
        rows = []
        for index, name in enumerate(names):
            right, images, guessed = (int(value) for value in (
                self.confusion[index, index], self.confusion[index].sum(), self.confusion[:, index].sum()))
            rows.append({"class": name, "images": images, "recall": right / images if images else None,
                         "precision": right / guessed if guessed else None})
        return rows
