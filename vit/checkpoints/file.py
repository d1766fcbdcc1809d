"""One checkpoint in one safetensors file: canonical tensors, and the rest of the state as JSON in its header."""
import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from vit.errors import UserError, one_line
from vit.files.atomic import write_whole
from vit.model import parameters
from vit.model.config import ViTConfig
from vit.model.parameters import Weights

FORMAT = "vit-checkpoint-1"
PHASES = ("training", "trained", "evaluated", "finished")
_COUNTS = ("epoch", "step", "batch", "optimizer_steps")


@dataclass
class Checkpoint:
    """What a stopped training needs to go on exactly.

    Args:
        stage: Which training of a run: "pretrain", "finetune", "scratch", or a name of the user's.
        phase: "training" (inside of an epoch), "trained" (the epoch was not evaluated yet), "evaluated" (between two
            epochs) or "finished" (the stage is over).
        epoch: The epoch, from 1.
        step: Training steps of the stage so far.
        batch: Training steps of this epoch so far.
        optimizer_steps: Updates of the optimizer so far (fewer, if gradients are accumulated or steps were skipped).
        config: The model.
        weights: Its weights.
        moment1: The optimizer's first moment (SGD's velocity), under the weights' names.
        moment2: The optimizer's second moment.
        average: The weights' moving average, or None.
        metric: Accuracy of the last evaluation, or None before the first.
        best: The best accuracy so far, and the name of the file that holds it; or two None.
        recipe: The resolved recipe, as plain values.
        options: What else the run was started with.
        history: What the run's records hold so far, as plain values.
        numbers: The same, where it is a list of numbers: float64 arrays by name.
        traces: State of the other traces, by their place and class.
        loss_scale: Of mixed precision, as plain values; or None.
        backend: Which framework wrote it.
    """
    stage: str
    phase: str
    epoch: int
    step: int
    batch: int
    optimizer_steps: int
    config: ViTConfig
    weights: Weights
    moment1: Weights
    moment2: Weights
    average: Weights | None = None
    metric: float | None = None
    best: list = field(default_factory=lambda: [None, None])
    recipe: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    history: dict = field(default_factory=dict)
    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    traces: dict = field(default_factory=dict)
    loss_scale: dict | None = None
    backend: str = ""

    def refill(self, history: object) -> None:
        """Put what was recorded so far back into a history's lists."""
        for name, value in self.history.items():
            getattr(history, name)[:] = value
        for name, value in self.numbers.items():
            getattr(history, name)[:] = value.tolist()

    @property
    def groups(self) -> dict[str, Weights]:
        """Every set of tensors by its name."""
        groups = {name: getattr(self, name) for name in _GROUPS}
        return {name: group for name, group in groups.items() if group is not None}


_GROUPS = ("weights", "moment1", "moment2", "average")
_PLAIN = tuple(field.name for field in dataclasses.fields(Checkpoint)
               if field.name not in (*_GROUPS, "numbers", "config"))


def save(path: str | os.PathLike, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        OSError: It cannot be written; what was there is as it was.
    """
    state = {name: getattr(checkpoint, name) for name in _PLAIN} | {"config": checkpoint.config.to_dict()}
    text = json.dumps(state, sort_keys=True)
    tensors = {f"{group}/{name}": np.ascontiguousarray(value)
               for group, values in (checkpoint.groups | {"numbers": checkpoint.numbers}).items()
               for name, value in values.items()}
    metadata = {"format": FORMAT, "state": text, "sha256": _digest(text, tensors)}
    write_whole(path, safetensors.numpy.save(tensors, metadata))


def load(path: str | os.PathLike) -> Checkpoint:
    """Read a checkpoint and make sure that it is whole and makes sense.

    Raises:
        UserError: It is missing, cut off, changed, or not a checkpoint; the message names the file and the fault.
    """
    text, tensors = _read(Path(path))
    try:
        return _parse(json.loads(text), tensors)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: its state makes no sense ({one_line(error)})") from None


def _read(path: Path) -> tuple[str, dict[str, np.ndarray]]:
    try:
        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise UserError(f"{path}: is not a checkpoint of this project (no {FORMAT} in its header)")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint") from None
    except (safetensors.SafetensorError, OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({one_line(error)})") from None
    text = metadata.get("state", "")
    if metadata.get("sha256") != _digest(text, tensors):
        raise UserError(f"{path}: damaged: its content is not what its sha256 says")
    return text, tensors


def _parse(state: dict, tensors: dict[str, np.ndarray]) -> Checkpoint:
    config = ViTConfig.from_dict(state.pop("config"))
    if set(state) != set(_PLAIN):
        raise ValueError(f"unknown or missing: {sorted(set(state) ^ set(_PLAIN))}")
    groups: dict[str, Weights] = {}
    for name, value in tensors.items():
        group, _, parameter = name.partition("/")
        groups.setdefault(group, {})[parameter] = value
    numbers = groups.pop("numbers", {})
    if any(value.ndim != 1 or value.dtype != np.float64 for value in numbers.values()):
        raise ValueError("numbers that are no lists")
    if not set(_GROUPS[:3]) <= set(groups) <= set(_GROUPS):
        raise ValueError(f"it holds the tensors of {sorted(groups)}, not of {list(_GROUPS)}")
    for name, group in groups.items():
        try:
            parameters.check(group, config)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
    if state["phase"] not in PHASES:
        raise ValueError(f"phase {state['phase']!r}")
    for name in _COUNTS:
        if type(state[name]) is not int or state[name] < 0:
            raise ValueError(f"{name} {state[name]!r}")
    for name in ("recipe", "options", "history", "traces"):
        if not isinstance(state[name], dict):
            raise ValueError(f"{name} {state[name]!r}")
    _check_scale(state["loss_scale"])
    if not isinstance(state["best"], list) or len(state["best"]) != 2:
        raise ValueError(f"best {state['best']!r}")
    for name in ("stage", "backend"):
        if not isinstance(state[name], str):
            raise ValueError(f"{name} {state[name]!r}")
    return Checkpoint(config=config, numbers=numbers, **state, **groups)


def _check_scale(state: dict | None) -> None:
    if state is None:
        return
    kinds = {"scale": float, "good_steps": int, "skipped": int}
    if not isinstance(state, dict) or {name: type(value) for name, value in state.items()} != kinds:
        raise ValueError(f"loss_scale {state!r}")
    if not 0 < state["scale"] < float("inf") or min(state["good_steps"], state["skipped"]) < 0:
        raise ValueError(f"loss_scale {state!r}")


def _digest(text: str, tensors: dict[str, np.ndarray]) -> str:
    """Over the state and the tensors, so that a changed bit anywhere is seen."""
    return hashlib.sha256((text + parameters.sha256(tensors)).encode()).hexdigest()
