"""One checkpoint in one safetensors file: canonical tensors, and the rest of the state as JSON in its header."""
import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vit.checkpoints.naming import checkpoint_name, parse_name
from vit.checkpoints.schema import OLD_OPTIONS, check_records, check_state
from vit.errors import UserError, one_line
from vit.files.atomic import whole_file
from vit.files.format_number import check_format
from vit.files.lazy_tensor import LazyTensor
from vit.files.model_check import check_tensors
from vit.files.safetensors import open_tensors, write_tensors
from vit.files.untrusted import listed
from vit.model import parameters
from vit.model.config import ViTConfig
from vit.model.parameters import Weights

# In format 1 the checksum was another, the group "ema" was called "average", and the option "skip_bad_images" was
# called "skip_bad_pictures".
_FORMAT_1, FORMAT = "vit-checkpoint-1", "vit-checkpoint-2"
_FORMAT_1_GROUPS = {"average": "ema"}
_MAX_HEADER_BYTES = 100_000_000  # the library's own limit: a history grows with the run


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
        data: The fingerprint of the run's images (`vit.data.fingerprint`), or None in a file that has none.
        stretches: Each process that trained a part of the run so far (`vit.training.stretches`).
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
    data: dict | None = None
    stretches: list[dict] = field(default_factory=list)

    def refill(self, history: object) -> None:
        """Put the records so far back into a history's lists.

        Raises:
            UserError: The history has no such list.
        """
        for name, value in (self.history | {name: value.tolist() for name, value in self.numbers.items()}).items():
            if not isinstance(vars(history).get(name), list):
                raise UserError(f"the checkpoint holds records of {name!r}, which this training does not write")
            vars(history)[name][:] = value

    @property
    def groups(self) -> dict[str, Weights]:
        """The sets of tensors under the weights' names, by their field."""
        groups = {name: getattr(self, name) for name in _GROUPS}
        return {name: group for name, group in groups.items() if group is not None}


_GROUPS = ("weights", "moment1", "moment2", "ema")
_TENSORS = (*_GROUPS, "numbers")
_PLAIN = tuple(one.name for one in dataclasses.fields(Checkpoint) if one.name not in _TENSORS)
_NEEDED = ("stage", "phase", "epoch", "step", "batch", "optimizer_steps", "config")


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
        UserError: It is missing, cut off, changed, called like another checkpoint, or not a checkpoint; the message
            names the file and the fault.
    """
    lazy, metadata = open_tensors(path, _MAX_HEADER_BYTES)
    found = check_format(path, metadata, (_FORMAT_1, FORMAT), "checkpoint")
    text = metadata.get("state", "")
    try:
        state = json.loads(text)
        config = _config(state, lazy)
        groups = _grouped({name: tensor.load() for name, tensor in lazy.items()})
        if found == _FORMAT_1:
            if metadata.get("sha256") != _format_1_digest(text, groups):
                raise UserError("damaged: its checksum is wrong")
            _renew(state, groups)
        numbers = groups.get("numbers", {})
        check_state(state)
        check_records(state, numbers)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{path}: its state makes no sense ({one_line(error)})") from None
    checkpoint = Checkpoint(**state | {"config": config}, **groups)
    if parse_name(path) not in (None, (checkpoint.stage, checkpoint.step)):
        raise UserError(f"{path}: is the checkpoint of step {checkpoint.step} of {checkpoint.stage}, so it must be "
                        f"called {checkpoint_name(checkpoint.stage, checkpoint.step)}")
    return checkpoint


def _config(state: dict, tensors: dict[str, LazyTensor]) -> ViTConfig:
    """The model of a checkpoint, once its fields are known and its tensors have the model's names and shapes."""
    unknown, missing = sorted(set(state) - set(_PLAIN)), sorted(set(_NEEDED) - set(state))
    if unknown or missing:
        raise ValueError(f"unknown: {unknown}, missing: {missing}")
    config = ViTConfig.from_dict(state["config"])
    groups = _grouped(tensors)
    groups = {_FORMAT_1_GROUPS.get(name, name): group for name, group in groups.items()}
    if not set(_GROUPS[:3]) <= set(groups) <= set(_TENSORS):
        raise ValueError(f"it holds the tensors of {listed(sorted(groups))}, not of {', '.join(_TENSORS)}")
    for name, group in groups.items():
        if name != "numbers":
            try:
                check_tensors(group, config)
            except UserError as error:
                raise UserError(f"{name}: {error}") from None
        elif any(len(tensor.shape) != 1 or tensor.dtype != "float64" for tensor in group.values()):
            raise ValueError("numbers that are no lists of float64")
    return config


def _format_1_digest(text: str, groups: dict[str, Weights]) -> str:
    tensors = {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}
    return hashlib.sha256((text + parameters.sha256(tensors)).encode()).hexdigest()


def _renew(state: dict, groups: dict[str, Weights]) -> None:
    """Put what format 1 says into this version's words; the recipe's are `Recipe.from_dict`'s to know."""
    state["options"] = {OLD_OPTIONS.get(name, name): value for name, value in state["options"].items()}
    for old, new in _FORMAT_1_GROUPS.items():
        if old in groups:
            groups[new] = groups.pop(old)


def _grouped(tensors: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The tensors "group/name" by group and name."""
    groups: dict[str, dict[str, Any]] = {}
    for name, value in tensors.items():
        group, _, inner = name.partition("/")
        groups.setdefault(group, {})[inner] = value
    return groups
