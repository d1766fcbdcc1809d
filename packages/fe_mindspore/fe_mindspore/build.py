"""What `fe.build` does with a MindSpore model: bundle it with its optimizers, weights and name."""
from collections.abc import Callable

from fastestimator.schedule.schedule import EpochScheduler, RepeatScheduler, Scheduler
from mindspore import nn

from fe_mindspore import checkpoint
from fe_mindspore.errors import UnsupportedError
from fe_mindspore.optimizer import make_optimizer


def compile_cell(model: nn.Cell, optimizer_fn: str | Scheduler | Callable | None, weight: str | None, name: str,
                 mixed_precision: bool) -> nn.Cell:
    """Bundle a Cell with its optimizers, as `fe.build` wants it.

    Args:
        model: The model.
        optimizer_fn: See `make_optimizer`; or an EpochScheduler or RepeatScheduler of such.
        weight: The path of weights to load (`.safetensors` or `.ckpt`), or None.
        name: The model's name.
        mixed_precision: Must be False.

    Returns:
        `model`, with `optimizer`, `current_optimizer`, `model_name`, `mixed_precision` and `fe_compiled` set.

    Raises:
        UnsupportedError: `mixed_precision` is asked for.
        ValueError: The optimizer or the weights do not fit the model.
    """
    if mixed_precision:
        raise UnsupportedError("fe.build(mixed_precision=True) is not supported for MindSpore models: apply "
                               "mindspore.amp.auto_mixed_precision(model, amp_level, dtype=mindspore.bfloat16) "
                               "inside model_fn (bfloat16 needs no loss scaling)")
    model.mixed_precision = False
    optimizers = []

    def make(definition: str | Callable | None) -> nn.Cell | None:
        optimizers.append(make_optimizer(definition, model, name, index=len(optimizers)))
        return optimizers[-1]

    if isinstance(optimizer_fn, EpochScheduler):
        for epoch, definition in optimizer_fn.epoch_dict.items():
            optimizer_fn.epoch_dict[epoch] = make(definition)
    elif isinstance(optimizer_fn, RepeatScheduler):
        optimizer_fn.repeat_list[:] = [make(definition) for definition in optimizer_fn.repeat_list]
    else:
        optimizer_fn = make(optimizer_fn)
    current = optimizer_fn.get_current_value(1) if isinstance(optimizer_fn, Scheduler) else optimizer_fn
    attach(model, "fe_optimizers", tuple(optimizers))
    attach(model, "optimizer", optimizer_fn)
    attach(model, "current_optimizer", current)
    model.fe_compiled = True
    model.model_name = name
    if weight:
        checkpoint.load_model(model, weight)
    return model


def attach(model: nn.Cell, name: str, value: object) -> None:
    """Set an attribute without MindSpore taking it for a part of the model, as it would an optimizer (a Cell too)."""
    model._cells.pop(name, None)
    object.__setattr__(model, name, value)
