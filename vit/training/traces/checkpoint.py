"""The FastEstimator trace that writes checkpoints, stops a training on request, and lets it go on from one."""
import functools
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fe_compat import load_fastestimator

from vit.checkpoints import folder as folder_
from vit.checkpoints.file import Checkpoint, save
from vit.errors import UserError
from vit.files.atomic import remove_parts
from vit.model.config import ViTConfig
from vit.model.parameters import Weights
from vit.training.stopping import StopRequest


class Access(NamedTuple):
    """How to reach into one framework's model and optimizer: five functions of a script."""
    to_numpy: callable
    from_numpy: callable
    moments: callable
    optimizer_steps: callable
    set_loss_scale: callable


def saver(model, access: Access, config: ViTConfig, folder: str | Path, every: int | str = "epoch", keep: int = 3,
          on_error: str = "continue", stage: str = "train", metric: str = "accuracy", history: object = None,
          average=None, scaling=None, accumulate: int = 1, resume: Checkpoint | None = None, **facts):
    """The trace, for `fastestimator.Estimator(traces=[...])`.

    Args:
        model: A ViT that `fastestimator.build` was given.
        access: Its script's functions.
        config: Its spec.
        folder: Where the checkpoints go; made if need be.
        every: Training steps between checkpoints, or "epoch". The best evaluation (where gradients are accumulated,
            the end of the update that it fell into) and the end are always saved.
        keep: How many of the newest stay.
        on_error: "stop" or "continue" where a checkpoint cannot be written.
        stage: What to call the training.
        metric: The key that an evaluation is judged by, higher is better.
        history: An object whose lists are saved and filled again, or None.
        average: The trace of `vit.training.traces.ema`, if there is one.
        scaling: The trace of `vit.training.traces.loss_scale`, if there is one.
        accumulate: Training steps of an update (UpdateOp's `merge_grad`); checkpoints wait for its end, since the sums
            inside of it are FastEstimator's.
        resume: Where to go on from.
        facts: More fields of `Checkpoint`: recipe, options, backend.

    Raises:
        UserError: An argument is impossible, or the folder cannot be made.
    """
    check_saving(every, keep, on_error)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        remove_parts(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror})") from None
    return _trace_class()(model, access, config, Path(folder), every, keep, on_error, stage, metric, history, average,
                          scaling, accumulate, resume, facts)


def check_saving(every: int | str, keep: int, on_error: str) -> None:
    """Hold what `saver` is asked for to what it can do.

    Raises:
        UserError: One is impossible.
    """
    if every != "epoch" and (type(every) is not int or every < 1):
        raise UserError(f'checkpoint_every must be a number of steps from 1, or "epoch", not {every!r}')
    if type(keep) is not int or keep < 1:
        raise UserError(f"keep must be at least 1, not {keep!r}")
    if on_error not in ("stop", "continue"):
        raise UserError(f'on_save_error must be "stop" or "continue", not {on_error!r}')


def _lists(history: object) -> tuple[dict, dict[str, np.ndarray]]:
    """A history's lists: those of records as they are, those of numbers as arrays."""
    lists = {name: value for name, value in vars(history).items() if isinstance(value, list)} if history else {}
    numbers = {name: np.array(value, np.float64) for name, value in lists.items()
               if all(isinstance(item, float) for item in value)}
    return {name: value for name, value in lists.items() if name not in numbers}, numbers


def _scalars(trace) -> dict:
    """What a trace holds in plain values: EarlyStopping's patience, BestModelSaver's best, and the like."""
    values = {name: value.item() if isinstance(value, np.generic) else value for name, value in vars(trace).items()}
    return {name: value for name, value in values.items() if isinstance(value, int | float | str | None)}


@functools.cache
def _trace_class():
    """The class, made when FastEstimator is there: importing this module imports no framework."""
    load_fastestimator()
    from fastestimator.trace.trace import Trace

    class CheckpointSaver(Trace):

        def __init__(self, model, access, config, folder, every, keep, on_error, stage, metric, history, average,
                     scaling, accumulate, resume, facts) -> None:
            # "*" puts it behind the traces whose state it saves.
            super().__init__(inputs="*", mode=("train", "eval"))
            self.model, self.access, self.config, self.folder = model, access, config, folder
            self.every, self.keep, self.on_error, self.stage, self.metric = every, keep, on_error, stage, metric
            self.history, self.average, self.resume, self.facts = history, average, resume, facts
            self.scaling, self.accumulate, self.request = scaling, accumulate, StopRequest()
            self.step = self.batch = self.epoch = 0
            self.due = self.better = False
            self.last = self.best = self.best_name = None

        # FastEstimator's events, in the order in which they come.

        def on_begin(self, data) -> None:
            self.request.__enter__()
            self.untouched = {key: _scalars(trace) for key, trace in self._others().items()}
            if self.resume is not None:
                self._restore(self.resume)

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
                self.due = self.due or (self.every != "epoch" and self.step % self.every == 0)

        def on_epoch_end(self, data) -> None:
            if self.system.mode == "train":
                self.batch = 0
                self._save_if("trained", self.due)
                return
            self.last = float(data[self.metric])
            if self.best is None or self.last > self.best:
                self.best, self.better = self.last, True
            self.due = self.due or self.every == "epoch" or self.better
            self._save_if("evaluated", self.due)

        def on_end(self, data) -> None:
            self._save("finished")
            if self.request.status:
                self._leave()
            self.close()

        def close(self) -> None:
            """Let signals act as before; a training that raises does not come to its end."""
            self.request.__exit__()

        # Saving.

        def _save_if(self, phase: str, due: bool) -> None:
            stopping = self.request.status
            if self.step % self.accumulate:
                return
            if due or stopping:
                self._save(phase)
            if stopping:
                self._leave()

        def _leave(self) -> None:
            self.close()
            print(f"stopped after step {self.step} of {self.stage}; to go on: --resume auto --model_dir "
                  f"{self.folder.parent}", file=sys.stderr, flush=True)
            raise SystemExit(self.request.status)

        def _save(self, phase: str) -> None:
            if self.better:
                self.best_name = folder_.name(self.stage, self.step)
            self.due = self.better = False
            try:
                save(self.folder / folder_.name(self.stage, self.step), self._gather(phase))
                folder_.prune(self.folder, self.stage, self.keep, self.best_name)
            except OSError as error:
                line = f"{self.folder}: the checkpoint of step {self.step} could not be written ({error.strerror})"
                if self.on_error == "stop":
                    self.close()
                    raise UserError(f"{line}; training stopped, as on_save_error says") from None
                print(f"warning: {line}; training goes on", file=sys.stderr, flush=True)

        def _gather(self, phase: str) -> Checkpoint:
            optimizer = self.model.current_optimizer
            moment1, moment2 = (self.access.to_numpy(self.model, slot)
                                for slot in self.access.moments(self.model, optimizer))
            records, numbers = _lists(self.history)
            return Checkpoint(
                stage=self.stage, phase=phase, epoch=self.epoch, step=self.step, batch=self.batch,
                optimizer_steps=self.access.optimizer_steps(optimizer),
                loss_scale=self.scaling.state if self.scaling else None, config=self.config, weights=self._weights(),
                moment1=moment1, moment2=moment2, average=self.average.values if self.average else None,
                metric=self.last, best=[self.best, self.best_name], history=records, numbers=numbers,
                traces=self._changed(), **self.facts)

        def _weights(self) -> Weights:
            """The trained ones, also while the average stands in for them."""
            kept = self.average.kept if self.average else None
            return kept or self.access.to_numpy(self.model)

        def _others(self) -> dict:
            """The other traces by place and class, but for those that FastEstimator adds for its own log lines."""
            traces = [trace for trace in self.system.traces if trace is not self
                      and type(trace).__module__ != "fastestimator.trace.trace"]
            return {f"{i}.{type(trace).__name__}": trace for i, trace in enumerate(traces)}

        def _changed(self) -> dict:
            """What has changed in the other traces since the beginning: settings have not, state has."""
            return {key: {name: value for name, value in _scalars(trace).items()
                          if self.untouched.get(key, {}).get(name) != value}
                    for key, trace in self._others().items()}

        # Going on.

        def _restore(self, point: Checkpoint) -> None:
            optimizer = self.model.current_optimizer
            self.access.from_numpy(self.model, point.weights)
            for slot, values in zip(self.access.moments(self.model, optimizer), (point.moment1, point.moment2),
                                    strict=True):
                self.access.from_numpy(self.model, values, slot)
            self.access.optimizer_steps(optimizer, point.optimizer_steps)
            if self.scaling and point.loss_scale:
                self.scaling.go_on(point.loss_scale)
            if self.average:
                self.average.values = point.average or self.access.to_numpy(self.model)
            self.step, self.batch, self.epoch, self.last = point.step, point.batch, point.epoch, point.metric
            self.best, self.best_name = point.best
            if self.history:
                point.refill(self.history)
            for key, trace in self._others().items():
                for name, value in point.traces.get(key, {}).items():
                    setattr(trace, name, value)
            self._set_clock(point)

        def _set_clock(self, point: Checkpoint) -> None:
            """Make FastEstimator begin where the checkpoint ended."""
            system = self.system
            system.global_step = point.step or None
            system.epoch_idx = point.epoch - 1 if point.phase == "training" else point.epoch
            if point.phase == "training":
                if not hasattr(system.pipeline, "skip"):
                    raise UserError("this pipeline cannot go on inside of an epoch: resume from a checkpoint of "
                                    "the end of one")
                system.pipeline.skip(point.epoch, point.batch)
            if point.phase != "trained" and system.epoch_idx > 0:
                # FastEstimator would evaluate the last epoch once more.
                _hide_once(system.pipeline, "eval")

    return CheckpointSaver


def _hide_once(pipeline, mode: str) -> None:
    """Make the pipeline's next answer about its modes leave one out."""
    known = pipeline.get_modes

    def get_modes(*args, **kwargs):
        del pipeline.get_modes
        return known(*args, **kwargs) - {mode}

    pipeline.get_modes = get_modes
