"""The traces of a stage: a progress bar, and the history that the results and the plot are made of."""
import functools
import math
import time
from dataclasses import dataclass, field

from vit.fe_compat import load_fastestimator


@dataclass
class History:
    """What a stage's trace writes down.

    Args:
        epochs: Of each epoch: its number, mean training loss, seconds and images/s of training (from the end of the
            first step on, so without compiling), evaluation loss, top-1 accuracy and seconds.
        step_losses: The loss of each training step, in order.
        gradient_norms: The global norm of each training step's gradients, before clipping.
        step_sizes: Pictures of each training step.
        first_steps: Of each epoch, how many steps came before it.
    """
    epochs: list[dict] = field(default_factory=list)
    step_losses: list[float] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)
    step_sizes: list[int] = field(default_factory=list)
    first_steps: list[int] = field(default_factory=list)

    def mean_loss(self) -> float:
        """Mean training loss of the last epoch, over its pictures."""
        first = self.first_steps[-1]
        losses, sizes = self.step_losses[first:], self.step_sizes[first:]
        return sum(loss * size for loss, size in zip(losses, sizes, strict=True)) / sum(sizes)


def build(history: History, model, steps_per_epoch: int, epochs: int, title: str) -> list:
    """The traces that fill `history` and show the progress.

    Args:
        history: Where to write.
        model: The model that is trained; its optimizer tells the gradients' norm.
        steps_per_epoch: Training steps of an epoch.
        epochs: Number of epochs.
        title: What to call the progress bar.

    Returns:
        FastEstimator traces; they read the keys "ce" (mean loss of a batch), "y" (labels) and "accuracy".
    """
    TrainHistory, EvalHistory, Progress = _classes()
    return [TrainHistory(history, model), EvalHistory(history), Progress(steps_per_epoch * epochs, title)]


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
    from tqdm import tqdm

    class TrainHistory(Trace):

        def __init__(self, history: History, model) -> None:
            super().__init__(inputs=["ce", "y"], mode="train")
            self.history, self.model = history, model

        def on_epoch_begin(self, data) -> None:
            self.begin, self.first_step, self.images = time.perf_counter(), None, 0
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

        def on_epoch_end(self, data) -> None:
            end = time.perf_counter()
            rate = self.images / (end - self.first_step) if self.images else None
            self.history.epochs.append({
                "epoch": self.system.epoch_idx,
                "train_loss": self.history.mean_loss(),
                "train_seconds": end - self.begin,
                "images_per_second": rate,
            })

    class EvalHistory(Trace):

        def __init__(self, history: History) -> None:
            super().__init__(inputs=["ce", "y", "accuracy"], mode="eval")
            self.history = history

        def on_epoch_begin(self, data) -> None:
            self.loss, self.begin = _Mean(), time.perf_counter()

        def on_batch_end(self, data) -> None:
            self.loss.add(float(data["ce"]), len(data["y"]))

        def on_epoch_end(self, data) -> None:
            self.history.epochs[-1] |= {
                "eval_loss": self.loss.value,
                "accuracy": float(data["accuracy"]),
                "eval_seconds": time.perf_counter() - self.begin,
            }

    class Progress(Trace):
        """A bar with the time left; tqdm keeps quiet where the output is not a terminal."""

        def __init__(self, steps: int, title: str) -> None:
            super().__init__(inputs="ce", mode="train")
            self.steps, self.title = steps, title

        def on_begin(self, data) -> None:
            self.bar = tqdm(total=self.steps, initial=self.system.global_step or 0, desc=self.title, unit="step",
                            disable=None, dynamic_ncols=True)

        def on_batch_end(self, data) -> None:
            self.bar.set_postfix(epoch=self.system.epoch_idx, loss=f"{float(data['ce']):.3f}", refresh=False)
            self.bar.update()

        def on_end(self, data) -> None:
            self.bar.close()

    return TrainHistory, EvalHistory, Progress
