"""The traces of a stage: a progress bar, and the history that the results and the plot are made of."""
import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from fe_compat import load_fastestimator


@dataclass
class History:
    """What a stage's trace writes down.

    Args:
        epochs: Of each epoch: its number, mean training loss, seconds and learning rate at its end, seconds a step and
            images/s (both from the end of the first step on, so without compiling), evaluation loss, top-1 and top-5
            accuracy and seconds; with a scaled loss also its scale and the steps skipped so far.
        step_losses: The loss of each training step, in order.
        gradient_norms: The global norm of each training step's gradients, before clipping.
        step_sizes: Images of each training step.
        first_steps: Of each epoch, how many steps came before it.
    """
    epochs: list[dict] = field(default_factory=list)
    step_losses: list[float] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)
    step_sizes: list[int] = field(default_factory=list)
    first_steps: list[int] = field(default_factory=list)

    def mean_loss(self) -> float:
        """Mean training loss of the last epoch, over its images."""
        first = self.first_steps[-1]
        losses, sizes = self.step_losses[first:], self.step_sizes[first:]
        return sum(loss * size for loss, size in zip(losses, sizes, strict=True)) / sum(sizes)


def build(history: History, model, steps_per_epoch: int, epochs: int, title: str, rate: Callable[[int], float],
          tensorboard: Path | None = None, scaling=None) -> list:
    """The traces that fill `history` and show the progress.

    Args:
        history: Where to write.
        model: The model that is trained; its optimizer tells the gradients' norm.
        steps_per_epoch: Training steps of an epoch.
        epochs: Number of epochs.
        title: What to call the progress bar, and the log lines.
        rate: From a step, counted from 1, to its learning rate.
        tensorboard: Folder for event files of what `history` holds of each epoch; None for none.
        scaling: The trace of `vit.training.traces.loss_scale`, if there is one.

    Returns:
        FastEstimator traces; they read the keys "ce" (mean loss of a batch), "y" (labels), "y_pred" (logits) and
        "accuracy".
    """
    TrainHistory, EvalHistory, Progress = _classes()
    return [TrainHistory(history, model, rate, scaling),
            EvalHistory(history, f"{title}: epoch", epochs, tensorboard), Progress(steps_per_epoch * epochs, title)]


def line(epoch: dict, head: str, epochs: int) -> str:
    """What is logged of an epoch that was trained and evaluated.

    Args:
        epoch: One of `History.epochs`.
        head: What the line begins with.
        epochs: How many there will be.
    """
    speed = ""
    if epoch["images_per_second"]:
        speed = f", {1000 * epoch['step_seconds']:.0f} ms a step, {epoch['images_per_second']:.0f} images/s"
    scale = ""
    if "loss_scale" in epoch:
        scale = f" scaled by {epoch['loss_scale']:g}, {epoch['skipped_steps']} steps skipped so far"
    return (f"{head} {epoch['epoch']}/{epochs}: {epoch['train_seconds']:.1f} s{speed}, "
            f"rate {epoch['learning_rate']:.2e}, loss {epoch['train_loss']:.4f}{scale} | test: "
            f"loss {epoch['eval_loss']:.4f}, top-1 {epoch['accuracy']:.2%}, top-5 {epoch['top5']:.2%}, "
            f"{epoch['eval_seconds']:.1f} s")


def top(logits: np.ndarray, labels: np.ndarray, count: int = 5) -> int:
    """How many samples have their label among the `count` highest logits; of equal ones all are as high as the first.

    Args:
        logits: [B, classes].
        labels: [B].
    """
    own = logits[np.arange(len(labels)), labels]
    return int(((logits > own[:, None]).sum(axis=1) < count).sum() - np.isnan(own).sum())


class _Mean:
    """Mean of per-batch means, weighted by the size of the batch."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def add(self, value: float, size: int) -> None:
        self.total += value * size
        self.count += size

    @property
    def value(self) -> float:
        return self.total / self.count if self.count else math.nan


@functools.cache
def _classes():
    """The classes that need FastEstimator, made when it is there: importing this module imports no framework."""
    load_fastestimator()
    from fastestimator.trace.trace import Trace
    from fastestimator.util.util import to_number
    from tqdm import tqdm

    class TrainHistory(Trace):

        def __init__(self, history: History, model, rate: Callable[[int], float], scaling) -> None:
            super().__init__(inputs=["ce", "y"], mode="train")
            self.history, self.model, self.rate, self.scaling = history, model, rate, scaling

        def on_epoch_begin(self, data) -> None:
            self.begin, self.first_step = time.perf_counter(), None
            self.images = self.steps = 0
            if len(self.history.first_steps) < self.system.epoch_idx:  # else this epoch was begun before
                self.history.first_steps.append(len(self.history.step_losses))

        def on_batch_end(self, data) -> None:
            loss, size = float(data["ce"]), len(data["y"])
            self.history.step_losses.append(loss)
            self.history.step_sizes.append(size)
            norm = self.model.current_optimizer.norm
            self.history.gradient_norms.append(norm.item() if hasattr(norm, "item") else norm.numpy().item())
            if self.first_step is None:
                self.first_step = time.perf_counter()
            else:
                self.images += size
                self.steps += 1

        def on_epoch_end(self, data) -> None:
            end = time.perf_counter()
            self.history.epochs.append({
                "epoch": self.system.epoch_idx,
                "learning_rate": self.rate(self.system.global_step),
                "train_loss": self.history.mean_loss(),
                "train_seconds": end - self.begin,
                "step_seconds": (end - self.first_step) / self.steps if self.steps else None,
                "images_per_second": self.images / (end - self.first_step) if self.images else None,
            })
            if self.scaling:
                state = self.scaling.state
                self.history.epochs[-1] |= {"loss_scale": state["scale"], "skipped_steps": state["skipped"]}

    class EvalHistory(Trace):

        def __init__(self, history: History, head: str, epochs: int, tensorboard: Path | None) -> None:
            super().__init__(inputs=["ce", "y", "y_pred", "accuracy"], mode="eval")
            self.history, self.head, self.epochs, self.tensorboard = history, head, epochs, tensorboard
            self.writer = None

        def on_epoch_begin(self, data) -> None:
            self.loss, self.top5, self.begin = _Mean(), 0, time.perf_counter()

        def on_batch_end(self, data) -> None:
            self.loss.add(float(data["ce"]), len(data["y"]))
            self.top5 += top(to_number(data["y_pred"]), to_number(data["y"]))

        def on_epoch_end(self, data) -> None:
            self.history.epochs[-1] |= {
                "eval_loss": self.loss.value,
                "accuracy": float(data["accuracy"]),
                "top5": self.top5 / self.loss.count,
                "eval_seconds": time.perf_counter() - self.begin,
            }
            tqdm.write(line(self.history.epochs[-1], self.head, self.epochs))
            if self.tensorboard:
                self.write_events(self.history.epochs[-1], self.system.global_step)

        def write_events(self, epoch: dict, step: int) -> None:
            if self.writer is None:
                from torch.utils.tensorboard import SummaryWriter
                self.writer = SummaryWriter(str(self.tensorboard))
            for name, value in epoch.items():
                if name != "epoch" and value is not None:
                    self.writer.add_scalar(name, value, step)
            self.writer.flush()

        def on_end(self, data) -> None:
            if self.writer is not None:
                self.writer.close()

    class Progress(Trace):
        """A bar with the time left; tqdm keeps quiet where the output is not a terminal."""

        def __init__(self, steps: int, title: str) -> None:
            super().__init__(inputs="ce", mode="train")
            self.steps, self.title = steps, title

        def on_begin(self, data) -> None:
            self.bar = tqdm(total=self.steps, desc=self.title, unit="step", disable=None, dynamic_ncols=True)

        def on_batch_end(self, data) -> None:
            self.bar.set_postfix(epoch=self.system.epoch_idx, loss=f"{float(data['ce']):.3f}", refresh=False)
            self.bar.update(self.system.global_step - self.bar.n)  # a resumed training begins further on

        def on_end(self, data) -> None:
            self.bar.close()

    return TrainHistory, EvalHistory, Progress
