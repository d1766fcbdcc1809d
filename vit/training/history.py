"""What is written down of a stage while it trains: the record that results, plots and checkpoints are made of."""
import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np


@dataclass
class History:
    """The record of one stage.

    Args:
        epochs: Of each epoch: its number, mean training loss, seconds and learning rate at its end, seconds a step and
            images/s (both from the end of the first step on, so without compiling); if it was evaluated, evaluation
            loss, top-1 and top-5 accuracy and seconds; with a scaled loss also its scale and the steps skipped so far.
        step_losses: The loss of each training step, in order.
        gradient_norms: The global norm of each training step's gradients, before clipping.
        step_sizes: Images of each training step.
        first_steps: Of each epoch, how many steps came before it.

    Attributes:
        unread: Losses and norms of the last steps, while they are on a device that need not be waited for.
    """
    epochs: list[dict] = field(default_factory=list)
    step_losses: list[float] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)
    step_sizes: list[int] = field(default_factory=list)
    first_steps: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.unread: deque[tuple] = deque()

    def read(self) -> None:
        """Read the losses and norms that are still on a device; it waits until they are there."""
        while self.unread:
            loss, norm = self.unread.popleft()
            self.step_losses.append(float(loss))
            self.gradient_norms.append(float(norm))

    def mean_loss(self) -> float:
        """Average the training loss over the images of the last epoch."""
        first = self.first_steps[-1]
        losses, sizes = self.step_losses[first:], self.step_sizes[first:]
        return sum(loss * size for loss, size in zip(losses, sizes, strict=True)) / sum(sizes)


def log_line(epoch: dict, head: str, epochs: int, evaluated_on: str = "test") -> str:
    """Say in one line how an epoch was trained and, if it was, evaluated.

    Args:
        epoch: One of `History.epochs`.
        head: What the line begins with.
        epochs: How many epochs there will be.
        evaluated_on: Which images it was evaluated on, "test" or "validation".
    """
    speed = ""
    if epoch["images_per_second"]:
        speed = f", {1000 * epoch['step_seconds']:.0f} ms a step, {epoch['images_per_second']:.0f} images/s"
    scale = ""
    if "loss_scale" in epoch:
        scale = f" scaled by {epoch['loss_scale']:g}, {epoch['skipped_steps']} steps skipped so far"
    evaluation = ""
    if "eval_loss" in epoch:
        right = f"top-1 {epoch['accuracy']:.2%}, top-5 {epoch['top5']:.2%}, " if "accuracy" in epoch else ""
        evaluation = (f" | {evaluated_on}: loss {epoch['eval_loss']:.4f}, {right}{epoch['eval_seconds']:.1f} s")
    return (f"{head} {epoch['epoch']}/{epochs}: {epoch['train_seconds']:.1f} s{speed}, "
            f"rate {epoch['learning_rate']:.2e}, loss {epoch['train_loss']:.4f}{scale}{evaluation}")


def evaluations_since_best(epochs: list[dict]) -> int:
    """Count the evaluations in a row, up to the last one, that were no better than the best before them.

    Args:
        epochs: As of `History.epochs`. Those that were not evaluated do not count; an accuracy that is no number is not
            better than any.
    """
    best, since = -math.inf, 0
    for epoch in epochs:
        if epoch.get("accuracy") is not None:
            best, since = (epoch["accuracy"], 0) if epoch["accuracy"] > best else (best, since + 1)
    return since


def count_top(logits: np.ndarray, labels: np.ndarray, count: int = 5) -> int:
    """Count the samples whose label is among the `count` highest logits; equal logits are all as high as the first.

    Args:
        logits: [B, classes].
        labels: [B].
        count: How many of the highest logits count.
    """
    own = logits[np.arange(len(labels)), labels]
    return int(((logits > own[:, None]).sum(axis=1) < count).sum() - np.isnan(own).sum())
