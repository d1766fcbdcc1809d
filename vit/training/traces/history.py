"""The two traces that fill a stage's `History`, and tell of each epoch."""
import math
import time

import numpy as np
from fastestimator.trace.trace import Trace
from fastestimator.util.util import to_number

from vit import terminal
from vit.errors import UserError
from vit.training.history import count_top, log_line
from vit.training.report import epoch_rows
from vit.training.report.log import say

STEPS_BETWEEN_READS = 50  # on an accelerator, which would have to wait for each look at a loss


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


class EpochLog:
    """Tell of epochs that are over: in a line each, a terminal in a row, and, if asked for, for TensorBoard.

    Args:
        stage: The `vit.training.job.Stage` whose history has them.
    """
    __slots__ = ("begun", "stage", "writer")  # no __dict__, into which FastEstimator would look

    def __init__(self, stage) -> None:
        self.stage, self.writer, self.begun = stage, None, False

    def tell(self, step: int) -> None:
        """Tell of the last epoch, which ended with a step."""
        stage, epoch = self.stage, self.stage.history.epochs[-1]
        say(log_line(epoch, f"{stage.name}: epoch", stage.epochs, stage.dataset.evaluated_on), self._row())
        if stage.tensorboard and stage.job.world.first:
            self._write_events(epoch, step)

    def _row(self) -> str | None:
        """What a terminal is told of the last epoch, the first time under a head; None without one."""
        columns = terminal.width()
        if columns is None:
            return None
        stage = self.stage
        head, row = epoch_rows.row(stage.history.epochs, stage.epochs, stage.name, stage.dataset.evaluated_on, columns)
        begun, self.begun = self.begun, True
        return row if begun else f"\n{head}\n{row}"

    def _write_events(self, epoch: dict, step: int) -> None:
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter
            self.writer = SummaryWriter(str(self.stage.tensorboard))
        for name, value in epoch.items():
            if name != "epoch" and value is not None:
                self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self.writer is not None:
            self.writer.close()


class TrainHistory(Trace):
    """Write down each training step, and each epoch's training; tell of epochs that are not evaluated.

    Reads "ce" (mean loss of a batch) and "y" (labels); the model's optimizer tells the gradients' norm.

    Args:
        stage: The `vit.training.job.Stage` whose history is filled.
        model: The model that is trained.
        loss_scale: The `LossScale` trace, or None where losses are not scaled.
        log: What tells of epochs; None is one of its own.
    """

    def __init__(self, stage, model, loss_scale=None, log: EpochLog | None = None) -> None:
        super().__init__(inputs=["ce", "y"], mode="train")
        self.log = log or EpochLog(stage)
        self.stage, self.history, self.model, self.loss_scale = stage, stage.history, model, loss_scale
        self.every = STEPS_BETWEEN_READS if stage.job.script.backend.on_accelerator() else 1

    def on_epoch_begin(self, data) -> None:
        self.begin, self.first_step = time.perf_counter(), None
        self.images = self.steps = 0
        self.checked = len(self.history.step_losses)  # those of a resumed run's earlier part were
        if len(self.history.first_steps) < self.system.epoch_idx:  # else this epoch was begun before
            self.history.first_steps.append(len(self.history.step_losses))

    def on_batch_end(self, data) -> None:
        hold = self.stage.job.script.backend.hold
        size = len(data["y"]) if self.stage.job.world.alone else data["samples"]
        self.history.step_sizes.append(size)
        self.history.unread.append((hold(data["ce"]), hold(self.model.current_optimizer.norm)))
        if len(self.history.unread) >= self.every:
            self._read()
        if self.first_step is None:
            self.first_step = time.perf_counter()
        else:
            self.images += size
            self.steps += 1

    def _read(self) -> None:
        """Read what is on the device, and stop a training that has diverged, unless it is asked to go on."""
        self.history.read()
        losses, norms = self.history.step_losses, self.history.gradient_norms
        for step in range(self.checked, len(losses)):
            self._check_finite("loss", losses[step], step + 1)
            if self.loss_scale is None:  # float16 skips such a step
                self._check_finite("norm of the gradients", norms[step], step + 1)
        self.checked = len(losses)

    def _check_finite(self, what: str, value: float, step: int) -> None:
        if self.stage.job.options.on_nan == "stop" and not math.isfinite(value):
            raise UserError(f"{self.stage.name} has diverged: the {what} of step {step} is {value}; "
                            f"{self.stage.last_checkpoint()}. A lower learning_rate or a longer warm-up may help, and "
                            "--on_nan continue goes on all the same")

    def on_epoch_end(self, data) -> None:
        self._read()
        end = time.perf_counter()
        self.history.epochs.append({
            "epoch": self.system.epoch_idx,
            "learning_rate": self.stage.learning_rate(self.system.global_step),
            "train_loss": self.history.mean_loss(),
            "train_seconds": end - self.begin,
            "step_seconds": (end - self.first_step) / self.steps if self.steps else None,
            "images_per_second": self.images / (end - self.first_step) if self.images else None,
        })
        if self.loss_scale:
            state = self.loss_scale.state
            self.history.epochs[-1] |= {"loss_scale": state["scale"], "skipped_steps": state["skipped"]}
        if not self.stage.evaluates(self.system.epoch_idx):
            self.log.tell(self.system.global_step)


class EvalHistory(Trace):
    """Write down each evaluation in the history, and tell of its epoch.

    Reads "ce", "y" and, if the stage's model classifies, "y_pred" (logits) and "accuracy".

    Args:
        stage: The `vit.training.job.Stage` whose history is filled.
        log: What tells of epochs; None is one of its own.
    """

    def __init__(self, stage, log: EpochLog | None = None) -> None:
        super().__init__(inputs=["ce", "y", *(["y_pred", "accuracy"] if stage.classifies else [])], mode="eval")
        self.stage, self.history, self.log = stage, stage.history, log or EpochLog(stage)

    def on_epoch_begin(self, data) -> None:
        self.loss, self.top5, self.finite, self.begin = _Mean(), 0, True, time.perf_counter()

    def on_batch_end(self, data) -> None:
        self.loss.add(float(data["ce"]), len(data["y"]))
        if not self.stage.classifies:
            return
        logits = to_number(data["y_pred"])
        self.finite = self.finite and bool(np.isfinite(logits).all())
        self.top5 += count_top(logits, to_number(data["y"]))

    def on_epoch_end(self, data) -> None:
        judged = {"accuracy": float(data["accuracy"]),
                  "top5": self.top5 / self.loss.count if self.finite else math.nan} if self.stage.classifies else {}
        self.history.epochs[-1] |= {"eval_loss": self.loss.value, **judged,
                                    "eval_seconds": time.perf_counter() - self.begin}
        self.log.tell(self.system.global_step)

    def on_end(self, data) -> None:
        self.log.close()
