"""What each field of a checkpoint must be. A checkpoint may come from anywhere, so all of it is held to this first."""
import math
import re
import reprlib

import numpy as np

from vit.data.fingerprint import is_fingerprint
from vit.fields import LONGEST, MOST
from vit.files.untrusted import listed

PHASES = ("training", "trained", "evaluated", "finished")
_LARGEST = 1 << 63  # of numbers in traces and records
_LONGEST = 4096  # of a path


def check_state(state: dict) -> None:
    """Hold the plain fields of a checkpoint to their types, ranges and nesting.

    Args:
        state: Values by field, as they were read from JSON; a field that is absent takes its default elsewhere.

    Raises:
        ValueError: A field is impossible; the message names it, what it must be and what it is.
    """
    for name, (holds, words) in FIELDS.items():
        if name in state and not holds(state[name]):
            raise ValueError(f"{name} must be {words}, not {reprlib.repr(state[name])}")
    if state["batch"] > state["step"] or state["optimizer_steps"] > state["step"]:
        raise ValueError(f"batch {state['batch']} and optimizer_steps {state['optimizer_steps']} must be at most step "
                         f"{state['step']}")


def check_records(state: dict, numbers: dict[str, np.ndarray]) -> None:
    """Hold the records of a training to its steps and epochs, so that it can go on with them.

    Args:
        state: The checkpoint's plain fields, which `check_state` has passed.
        numbers: Its lists of numbers.

    Raises:
        ValueError: A record is impossible, or there are not as many as steps or epochs.
    """
    records = state.get("history", {}) | {name: values.tolist() for name, values in numbers.items()}
    if twice := set(state.get("history", {})) & set(numbers):
        raise ValueError(f"records of {listed(twice)} are in history and in numbers")
    if not records:
        return
    if set(records) != set(RECORDS):
        raise ValueError(f"the records must be {', '.join(RECORDS)}, not {listed(records)}")
    for name, (holds, words) in RECORDS.items():
        odd = next((value for value in records[name] if not holds(value)), None)
        if odd is not None:
            raise ValueError(f"each of {name} must be {words}, not {reprlib.repr(odd)}")
    step, epoch = state["step"], state["epoch"]
    for name in ("step_losses", "gradient_norms", "step_sizes"):
        if len(records[name]) != step:
            raise ValueError(f"{name} has {len(records[name])} records of {step} steps")
    begins = records["first_steps"]
    if len(begins) > epoch or begins != sorted(set(begins)) or (begins and begins[-1] > step):
        raise ValueError(f"first_steps of {epoch} epochs must rise to at most {step}, not {reprlib.repr(begins)}")
    _check_epochs(records["epochs"], state)


def _check_epochs(epochs: list[dict], state: dict) -> None:
    """Hold the records of the epochs to those that are over; not each of them need have been evaluated."""
    if [record.get("epoch") for record in epochs] != list(range(1, len(epochs) + 1)) or len(epochs) > state["epoch"]:
        raise ValueError(f"the records of {state['epoch']} epochs are {len(epochs)}, and not numbered from 1")
    judged = _OF_EVALUATION - (_OF_CLASSES if state["config"].get("decoder_depth") else set())
    for record in epochs:
        evaluated = set(record) & _OF_EVALUATION or (
            record is epochs[-1] and len(epochs) == state["epoch"] and state["phase"] in ("evaluated", "finished"))
        needed = _OF_TRAINING | judged if evaluated else _OF_TRAINING
        if missing := needed - set(record):
            raise ValueError(f"the record of epoch {record['epoch']} lacks {listed(sorted(missing))}")
        if absent := [name for name, value in record.items() if value is None and name not in _MAY_BE_ABSENT]:
            raise ValueError(f"the record of epoch {record['epoch']} has no {listed(absent)}")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MOST


def _is_number(value: object) -> bool:
    """NaN and infinities are numbers: a training may have diverged."""
    return type(value) is float or (type(value) is int and abs(value) <= _LARGEST)


def _is_name(value: object) -> bool:
    return type(value) is str and len(value) <= 100 and value.isprintable() and "/" not in value


def _is_path(value: object) -> bool:
    return value is None or (type(value) is str and 0 < len(value) <= _LONGEST and "\0" not in value)


def _is_scalar(value: object) -> bool:
    return value is None or type(value) is bool or _is_number(value) or (type(value) is str and len(value) <= _LONGEST)


def _is_flat(value: object) -> bool:
    """Whether it is a dict of plain values."""
    return isinstance(value, dict) and all(map(_is_scalar, value.values()))


def _is_recipe(value: object) -> bool:
    """Whether it is a dict of plain values and short lists of numbers."""
    return isinstance(value, dict) and all(
        _is_scalar(one) or (isinstance(one, list) and len(one) <= LONGEST and all(map(_is_number, one)))
        for one in value.values())


def _is_best(value: object) -> bool:
    return (isinstance(value, list) and len(value) == 2 and (value[0] is None or _is_number(value[0]))
            and (value[1] is None or _is_name(value[1])))


def _are_options(value: object) -> bool:
    names = {name: OLD_OPTIONS.get(name, name) for name in value} if isinstance(value, dict) else None
    return names is not None and all(names[name] in OPTIONS and OPTIONS[names[name]](value[name]) for name in names)


def _is_history(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(records, list) for records in value.values())


def _are_traces(value: object) -> bool:
    return isinstance(value, dict) and all(
        re.fullmatch(r"[0-9]{1,4}\.\w{1,100}", key) and _is_flat(state) and all(
            name.isidentifier() and not name.startswith("__") for name in state)
        for key, state in value.items())


def _is_loss_scale(value: object) -> bool:
    if value is None:
        return True
    types = {"scale": float, "good_steps": int, "skipped": int}
    return (isinstance(value, dict) and {name: type(one) for name, one in value.items()} == types
            and 0 < value["scale"] < math.inf and _is_count(value["good_steps"]) and _is_count(value["skipped"]))


def _is_epoch(value: object) -> bool:
    return isinstance(value, dict) and all(one is None or _is_number(one) for one in value.values())


def _is_stretch(value: object) -> bool:
    return (isinstance(value, dict) and set(STRETCH) - {"world_size"} <= set(value) <= set(STRETCH)
            and all(holds(value.get(name)) for name, holds in STRETCH.items()))


# A process that trained a part of a run; what an older version did not note is None.
STRETCH = {
    "stage": _is_name,
    "step": lambda value: value is None or _is_count(value),
    "recipe": _is_recipe,
    "backend": _is_name,
    "versions": lambda value: value is None or _is_flat(value),
    "git_commit": lambda value: value is None or _is_name(value),
    "host": lambda value: value is None or _is_name(value),
    "num_workers": lambda value: value is None or _is_count(value),
    "world_size": lambda value: value is None or _is_count(value),
}
# Every plain field of a checkpoint; one that is added needs a row. "config" is held to the model's spec, and the names
# and values of "recipe" to `Recipe` where the run goes on.
FIELDS = {
    "stage": (_is_name, "a name"),
    "phase": (PHASES.__contains__, f"one of {', '.join(PHASES)}"),
    "epoch": (_is_count, "a count"),
    "step": (_is_count, "a count"),
    "batch": (_is_count, "a count"),
    "optimizer_steps": (_is_count, "a count"),
    "metric": (lambda value: value is None or _is_number(value), "a number or null"),
    "best": (_is_best, "a number and a file name, or nulls"),
    "recipe": (_is_recipe, "plain values by name"),
    "options": (_are_options, "what a run can be started with"),
    "history": (_is_history, "lists by name"),
    "traces": (_are_traces, "plain values by name, by the traces' places and classes"),
    "loss_scale": (_is_loss_scale, "a positive scale and two counts, or null"),
    "backend": (_is_name, "a name"),
    "stretches": (lambda value: isinstance(value, list) and all(map(_is_stretch, value)),
                  "a list of what each part of the run was trained with"),
    "data": (lambda value: value is None or is_fingerprint(value), "a fingerprint of the images, or null"),
}
# What a run was started with, as `vit.training.resume.STARTED_WITH` lists it. No other option may come from a file: it
# could make the run write where nobody asked it to.
OPTIONS = {
    "data_dir": _is_path,
    "pretrained": _is_path,
    "skip_bad_images": lambda value: type(value) is bool,
    "compare_scratch": lambda value: type(value) is bool,
}
OLD_OPTIONS = {"skip_bad_pictures": "skip_bad_images"}  # what older versions called one of them
# The lists of `vit.training.history.History`.
RECORDS = {
    "epochs": (_is_epoch, "numbers by name"),
    "step_losses": (_is_number, "a number"),
    "gradient_norms": (_is_number, "a number"),
    "step_sizes": (lambda value: _is_count(value) and value > 0, "a count of images"),
    "first_steps": (_is_count, "a count"),
}
_OF_TRAINING = {"epoch", "learning_rate", "train_loss", "train_seconds", "step_seconds", "images_per_second"}
_OF_EVALUATION = {"eval_loss", "accuracy", "top5", "eval_seconds"}
_OF_CLASSES = {"accuracy", "top5"}  # which a masked autoencoder has not
_MAY_BE_ABSENT = {"step_seconds", "images_per_second"}  # of an epoch of one step
