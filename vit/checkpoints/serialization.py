"""One checkpoint in one safetensors file: canonical tensors, and the rest of the state as JSON in its header."""
import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field

import numpy as np

from vit.errors import UserError, one_line
from vit.files.atomic import whole_file
from vit.files.format_number import check_format
from vit.files.safetensors import open_tensors, write_tensors
from vit.model import parameters
from vit.model.config import ViTConfig
from vit.model.parameters import Weights

# In format 1 the checksum was another, the group "ema" was called "average", and the option "skip_bad_images" was
# called "skip_bad_pictures".
_FORMAT_1, FORMAT = "vit-checkpoint-1", "vit-checkpoint-2"
_FORMAT_1_OPTIONS = {"skip_bad_pictures": "skip_bad_images"}
_MAX_HEADER_BYTES = 100_000_000  # the library's own limit: a history grows with the run
PHASES = ("training", "trained", "evaluated", "finished")
_COUNTS = ("epoch", "step", "batch", "optimizer_steps")


@dataclass
class Checkpoint:
    """What a stopped training needs to go on exactly.

    A file that lacks a field was written before the field was there; it takes the field's default, which must
    therefore change nothing.

    Args:
        stage: Which training of a run: "pretrain", "finetune", "scratch", or a name of the user's.
        phase: "training" (within an epoch), "trained" (at the end of an epoch, before its evaluation), "evaluated"
            (between two epochs) or "finished" (the stage is over).
        epoch: The epoch, from 1.
        step: Training steps of the stage so far.
        batch: Training steps of this epoch so far.
        optimizer_steps: Updates of the optimizer so far (fewer, if gradients are accumulated or steps were skipped).
        config: The model.
        weights: Its weights.
        moment1: The optimizer's first moment (SGD's velocity), under the weights' names.
        moment2: The optimizer's second moment, alike.
        ema: The weights' exponential moving average, or None.
        metric: Accuracy of the last evaluation, or None before the first.
        best: The best accuracy so far, and the name of the file that holds it; or two None.
        recipe: The resolved recipe's fields as plain values, under the names that they had when it was written.
        options: The run's other options.
        history: The run's records so far, as plain values: one list for each name.
        numbers: The run's lists of numbers so far: one float64 array for each name.
        traces: The state of FastEstimator's other traces, by their position and class.
        loss_scale: The state of mixed precision's loss scale as plain values, or None.
        backend: The framework that wrote it.
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
    ema: Weights | None = None
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
        """Put the records so far back into a history's lists."""
        for name, value in self.history.items():
            getattr(history, name)[:] = value
        for name, value in self.numbers.items():
            getattr(history, name)[:] = value.tolist()

    @property
    def groups(self) -> dict[str, Weights]:
        """The sets of tensors under the weights' names, by their field."""
        groups = {name: getattr(self, name) for name in _GROUPS}
        return {name: group for name, group in groups.items() if group is not None}


_GROUPS = ("weights", "moment1", "moment2", "ema")
_TENSORS = (*_GROUPS, "numbers")
_PLAIN = tuple(one.name for one in dataclasses.fields(Checkpoint) if one.name not in _TENSORS)
_NEEDED = ("stage", "phase", *_COUNTS, "config")


def save(path: str | os.PathLike, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        OSError: It cannot be written; what was there is as it was.
    """
    state = {name: getattr(checkpoint, name) for name in _PLAIN} | {"config": checkpoint.config.to_dict()}
    tensors = {f"{group}/{name}": value
               for group, values in (checkpoint.groups | {"numbers": checkpoint.numbers}).items()
               for name, value in values.items()}
    with whole_file(path) as file:
        write_tensors(file, tensors, {"format": FORMAT, "state": json.dumps(state, sort_keys=True)})


def load(path: str | os.PathLike) -> Checkpoint:
    """Read a checkpoint of this version or an older one, and make sure that it is whole and makes sense.

    Raises:
        UserError: It is missing, cut off, changed, or not a checkpoint; the message names the file and the fault.
    """
    lazy, metadata = open_tensors(path, _MAX_HEADER_BYTES)
    found = check_format(path, metadata, (_FORMAT_1, FORMAT), "checkpoint")
    tensors = {name: tensor.load() for name, tensor in lazy.items()}
    text = metadata.get("state", "")
    if found == _FORMAT_1 and metadata.get("sha256") != _format_1_digest(text, tensors):
        raise UserError(f"{path}: damaged: its checksum is wrong")
    try:
        state, groups = json.loads(text), _grouped(tensors)
        if found == _FORMAT_1:
            _renew(state, groups)
        return _checked(state, groups)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: its state makes no sense ({one_line(error)})") from None


def _format_1_digest(text: str, tensors: dict[str, np.ndarray]) -> str:
    return hashlib.sha256((text + parameters.sha256(tensors)).encode()).hexdigest()


def _renew(state: dict, groups: dict[str, Weights]) -> None:
    """Put what format 1 says into this version's words; the recipe's are `Recipe.from_dict`'s to know."""
    state["options"] = {_FORMAT_1_OPTIONS.get(name, name): value for name, value in state["options"].items()}
    if "average" in groups:
        groups["ema"] = groups.pop("average")


def _grouped(tensors: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """The tensors "group/name" by group and name."""
    groups: dict[str, dict[str, np.ndarray]] = {}
    for name, value in tensors.items():
        group, _, inner = name.partition("/")
        groups.setdefault(group, {})[inner] = value
    return groups


def _checked(state: dict, groups: dict[str, dict[str, np.ndarray]]) -> Checkpoint:
    """The checkpoint, once everything in it was held to what it must be."""
    unknown, missing = sorted(set(state) - set(_PLAIN)), sorted(set(_NEEDED) - set(state))
    if unknown or missing:
        raise ValueError(f"unknown: {unknown}, missing: {missing}")
    if not set(_GROUPS[:3]) <= set(groups) <= set(_TENSORS):
        raise ValueError(f"it holds the tensors of {sorted(groups)}, not of {list(_TENSORS)}")
    checkpoint = Checkpoint(**state | {"config": ViTConfig.from_dict(state["config"])}, **groups)
    for name, group in checkpoint.groups.items():
        try:
            parameters.check(group, checkpoint.config)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
    if any(value.ndim != 1 or value.dtype != np.float64 for value in checkpoint.numbers.values()):
        raise ValueError("numbers that are no lists of float64")
    sound = {
        "phase": checkpoint.phase in PHASES,
        **{name: type(getattr(checkpoint, name)) is int and getattr(checkpoint, name) >= 0 for name in _COUNTS},
        **{name: isinstance(getattr(checkpoint, name), dict) for name in ("recipe", "options", "history", "traces")},
        **{name: isinstance(getattr(checkpoint, name), str) for name in ("stage", "backend")},
        "best": isinstance(checkpoint.best, list) and len(checkpoint.best) == 2,
        "loss_scale": checkpoint.loss_scale is None or _is_loss_scale(checkpoint.loss_scale),
    }
    if odd := [name for name, good in sound.items() if not good]:
        raise ValueError(f"{odd[0]} {getattr(checkpoint, odd[0])!r}")
    return checkpoint


def _is_loss_scale(state: object) -> bool:
    types = {"scale": float, "good_steps": int, "skipped": int}
    return (isinstance(state, dict) and {name: type(value) for name, value in state.items()} == types
            and 0 < state["scale"] < float("inf") and min(state["good_steps"], state["skipped"]) >= 0)
