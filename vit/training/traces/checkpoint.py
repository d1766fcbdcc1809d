"""The trace that writes checkpoints, stops a training on request, and lets it go on from a checkpoint."""
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
from fastestimator.trace.trace import Trace

from vit import checkpoints
from vit.checkpoints import Checkpoint
from vit.errors import UserError
from vit.files.atomic import remove_parts
from vit.model import parameters
from vit.model.parameters import Weights
from vit.training.history import History
from vit.training.stopping import StopRequest
from vit.training.workers import ALONE, World


@dataclass(frozen=True, slots=True)  # without a __dict__, into which FastEstimator would look
class Saving:
    """When and where checkpoints are written, and what they say of the run.

    Args:
        script: The model's script.
        folder: Where the checkpoints go; made if need be.
        every: Training steps between checkpoints, or "epoch". The best evaluation (where gradients are accumulated,
            the end of the update that it fell into) and the end are always saved.
        keep: How many of the newest stay.
        on_error: "stop" or "continue" where a checkpoint cannot be written.
        stage: What to call the training.
        metric: The key that an evaluation is judged by; higher is better. None where none is.
        accumulate_steps: Training steps of an update (UpdateOp's `merge_grad`); checkpoints wait for its end, since
            the sums inside of it are FastEstimator's.
        resume: The checkpoint to go on from, or None.
        recipe: The resolved recipe, as plain values.
        options: What else the run was started with, as plain values.
        data: The fingerprint of the run's images, or None.
        stretches: Each process that trained a part of the run so far, this one included.
        world: The workers that train together; the first one writes.
        mirror: What copies the run's files elsewhere (`vit.training.mirror.Mirror`), or None.
    """
    script: ModuleType
    folder: Path
    every: int | str = "epoch"
    keep: int = 3
    on_error: str = "continue"
    stage: str = "train"
    metric: str | None = "accuracy"
    accumulate_steps: int = 1
    resume: Checkpoint | None = None
    recipe: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    data: dict | None = None
    stretches: list[dict] = field(default_factory=list)
    world: World = ALONE
    mirror: object = None


class CheckpointSaver(Trace):
    """Write checkpoints, stop when a signal asks for it, and go on from a checkpoint.

    Args:
        model: A ViT that `fastestimator.build` was given.
        saving: When and where.
        history: The record that is saved, and filled again; or None.
        ema: The `EMA` trace, if there is one.
        loss_scale: The `LossScale` trace, if there is one.

    Attributes:
        agreed: Of several workers, the exit status that any of them was asked to stop with, once all know it.

    Raises:
        UserError: The folder cannot be made.
    """

    def __init__(self, model, saving: Saving, history: History | None = None, ema=None, loss_scale=None) -> None:
        # "*" puts it behind the traces whose state it saves.
        super().__init__(inputs="*", mode=("train", "eval"))
        self.model, self.saving = model, saving
        self.history, self.ema, self.loss_scale = history, ema, loss_scale
        self.request = StopRequest()
        self.step = self.batch = self.epoch = 0
        self.due = self.better = False
        self.last = self.best = self.best_name = self.written = self.agreed = None
        try:
            if saving.world.first:
                saving.folder.mkdir(parents=True, exist_ok=True)
                remove_parts(saving.folder)
        except OSError as error:
            raise UserError(f"{saving.folder}: cannot be made ({error.strerror})") from None

    # FastEstimator's events, in the order in which they come.

    def on_begin(self, data) -> None:
        self.request.__enter__()
        self.untouched = {key: _scalars(trace) for key, trace in self._others().items()}
        if self.saving.resume is not None:
            self._restore(self.saving.resume)

    def on_epoch_begin(self, data) -> None:
        if self.system.mode == "train":
            self.epoch = self.system.epoch_idx

    def on_batch_begin(self, data) -> None:
        # Here and not when the batch before ended: now it is known that the epoch goes on.
        if self.system.mode == "train":
            self._save_if("training", self.due)
        else:
            self._save_if("trained", False)

    def on_batch_end(self, data) -> None:
        if self.system.mode == "train":
            self.step, self.batch = self.step + 1, self.batch + 1
            self.due = self.due or (self.saving.every != "epoch" and self.step % self.saving.every == 0)

    def on_epoch_end(self, data) -> None:
        if self.system.mode == "train":
            self.batch = 0
            evaluated = "eval" in self.system.pipeline.get_modes(self.epoch)
            self.due = self.due or (self.saving.every == "epoch" and not evaluated)
            self._save_if("trained", self.due)
            return
        self.last = math.nan if self.saving.metric is None else float(data[self.saving.metric])
        if math.isnan(self.last):
            self.last = None
        elif self.best is None or self.last > self.best:
            self.best, self.better = self.last, True
        self.due = self.due or self.saving.every == "epoch" or self.better
        self._save_if("evaluated", self.due)

    def on_end(self, data) -> None:
        self._save("finished")
        told = self.saving.world.gather(np.array(self.request.status or 0))
        self.agreed = next((int(status) for status, in told if status), None)
        if self._stopping():
            self._leave()
        self.close()

    def close(self) -> None:
        """Let signals act as before; a training that raises does not come to its end."""
        self.request.__exit__()

    # Saving.

    def _stopping(self) -> int | None:
        """The exit status to stop with; all workers must stop after the same step."""
        return self.request.status if self.saving.world.alone else self.agreed

    def _save_if(self, phase: str, due: bool) -> None:
        stopping = self._stopping()
        if self.step % self.saving.accumulate_steps:
            return
        if due or stopping:
            self._save(phase)
        if stopping:
            self._leave()

    def _leave(self) -> None:
        self.close()
        print(f"stopped after step {self.step} of {self.saving.stage}; to go on: --resume auto --model_dir "
              f"{self.saving.mirror or self.saving.folder.parent}", file=sys.stderr, flush=True)
        raise SystemExit(self._stopping())

    def _save(self, phase: str) -> None:
        folder, name = self.saving.folder, checkpoints.checkpoint_name(self.saving.stage, self.step)
        if spoilt := parameters.not_finite(self._weights()):
            print(f"warning: no checkpoint of step {self.step}: {spoilt[0]} holds values that are not finite",
                  file=sys.stderr, flush=True)
            self.due = self.better = False
            return
        if self.better:
            self.best_name = name
        self.due = self.better = False
        if not self.saving.world.first:
            self.written = folder / name
            return
        try:
            checkpoints.save(folder / name, self._gather(phase))
            self.written = folder / name
            checkpoints.prune(folder, self.saving.stage, self.saving.keep, self.best_name)
            if self.saving.mirror:
                self.saving.mirror.push()
        except OSError as error:
            line = (f"{self.saving.mirror or folder}: the checkpoint of step {self.step} could not be written "
                    f"({error.strerror})")
            if self.saving.on_error == "stop":
                self.close()
                raise UserError(f"{line}; training stopped, as on_save_error says") from None
            print(f"warning: {line}; training goes on", file=sys.stderr, flush=True)

    def _gather(self, phase: str) -> Checkpoint:
        optimizer = self.model.current_optimizer
        moment1, moment2 = (self.saving.script.to_numpy(self.model, slot) for slot in optimizer.moments())
        if self.history:
            self.history.read()
        records, numbers = _lists(self.history)
        return Checkpoint(
            stage=self.saving.stage, phase=phase, epoch=self.epoch, step=self.step, batch=self.batch,
            optimizer_steps=optimizer.updates(), loss_scale=self.loss_scale.state if self.loss_scale else None,
            config=self.model.config, weights=self._weights(), moment1=moment1, moment2=moment2,
            ema=self.ema.values if self.ema else None, metric=self.last, best=[self.best, self.best_name],
            history=records, numbers=numbers, traces=self._changed(), recipe=self.saving.recipe,
            options=self.saving.options, data=self.saving.data, stretches=self.saving.stretches,
            backend=self.saving.script.backend.NAME)

    def _weights(self) -> Weights:
        """The trained ones, also while the average stands in for them."""
        trained = self.ema.trained if self.ema else None
        return trained or self.saving.script.to_numpy(self.model)

    def _others(self) -> dict:
        """The other traces by position and class, but for those that FastEstimator adds for its own log lines."""
        traces = [trace for trace in self.system.traces if trace is not self
                  and type(trace).__module__ != "fastestimator.trace.trace"]
        return {f"{i}.{type(trace).__name__}": trace for i, trace in enumerate(traces)}

    def _changed(self) -> dict:
        """What has changed in the other traces since the beginning: settings have not, state has."""
        return {key: {name: value for name, value in _scalars(trace).items()
                      if self.untouched.get(key, {}).get(name) != value}
                for key, trace in self._others().items()}

    # Going on.

    def _restore(self, checkpoint: Checkpoint) -> None:
        optimizer = self.model.current_optimizer
        self.saving.script.from_numpy(self.model, checkpoint.weights)
        for slot, values in zip(optimizer.moments(), (checkpoint.moment1, checkpoint.moment2), strict=True):
            self.saving.script.from_numpy(self.model, values, slot)
        optimizer.set_updates(checkpoint.optimizer_steps)
        if self.loss_scale and checkpoint.loss_scale:
            self.loss_scale.go_on(checkpoint.loss_scale)
        if self.ema:
            self.ema.values = checkpoint.ema or self.saving.script.to_numpy(self.model)
        self.step, self.batch = checkpoint.step, checkpoint.batch
        self.epoch, self.last = checkpoint.epoch, checkpoint.metric
        self.best, self.best_name = checkpoint.best
        self.written = self.saving.folder / checkpoints.checkpoint_name(checkpoint.stage, checkpoint.step)
        if self.history:
            checkpoint.refill(self.history)
        for key, trace in self._others().items():
            checkpoints.restore(trace, checkpoint.traces.get(key, {}))
        self._set_clock(checkpoint)

    def _set_clock(self, checkpoint: Checkpoint) -> None:
        """Make FastEstimator begin where the checkpoint ended."""
        system = self.system
        system.global_step = checkpoint.step or None
        system.epoch_idx = checkpoint.epoch - 1 if checkpoint.phase == "training" else checkpoint.epoch
        if checkpoint.phase == "training":
            if not hasattr(system.pipeline, "skip"):
                raise UserError("this pipeline cannot go on inside of an epoch: resume from a checkpoint of "
                                "the end of one")
            system.pipeline.skip(checkpoint.epoch, checkpoint.batch)
        if checkpoint.phase != "trained" and system.epoch_idx > 0:
            # FastEstimator would evaluate the last epoch once more.
            _hide_once(system.pipeline, "eval")


def _lists(history: History | None) -> tuple[dict, dict[str, np.ndarray]]:
    """A history's lists: those of records as they are, those of numbers as arrays."""
    lists = {name: value for name, value in vars(history).items() if isinstance(value, list)} if history else {}
    numbers = {name: np.array(value, np.float64) for name, value in lists.items()
               if all(isinstance(item, float) for item in value)}
    return {name: value for name, value in lists.items() if name not in numbers}, numbers


def _scalars(trace) -> dict:
    """What a trace holds in plain values: EarlyStopping's patience, BestModelSaver's best, and the like."""
    values = {name: value.item() if isinstance(value, np.generic) else value for name, value in vars(trace).items()}
    return {name: value for name, value in values.items() if isinstance(value, int | float | str | None)}


def _hide_once(pipeline, mode: str) -> None:
    """Make the pipeline's next answer about its modes leave one out."""
    known = pipeline.get_modes

    def get_modes(*args, **kwargs):
        del pipeline.get_modes
        return known(*args, **kwargs) - {mode}

    pipeline.get_modes = get_modes
