"""Optimizers of MindSpore models: making them, naming their state, and their learning rate at run time."""
from collections.abc import Callable, Iterator
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn
from mindspore.experimental import optim as experimental_optim

from fe_mindspore.convert import assign, to_numpy
from fe_mindspore.errors import UnsupportedError

OPTIMIZER_TYPES = (nn.Optimizer, experimental_optim.Optimizer)

# FastEstimator's names. Learning rates are torch's defaults, so that a name means the same as with a torch model.
_BY_NAME = {
    "adadelta": lambda params: nn.Adadelta(params, learning_rate=1.0, rho=0.9, epsilon=1e-6),
    "adagrad": lambda params: nn.Adagrad(params, accum=1e-10, learning_rate=0.01),
    "adam": lambda params: nn.Adam(params, learning_rate=0.001),
    "adamax": lambda params: nn.AdaMax(params, learning_rate=0.002),
    "rmsprop": lambda params: nn.RMSProp(params, learning_rate=0.01, decay=0.99, epsilon=1e-8),
    "sgd": lambda params: nn.SGD(params, learning_rate=0.01),
}


def make_optimizer(optimizer_fn: str | Callable | None, model: nn.Cell, model_name: str,
                   index: int) -> nn.Cell | None:
    """Make one optimizer over a model's trainable parameters.

    Args:
        optimizer_fn: A function of the list of trainable parameters, a name ("adam", "sgd", ...), or None.
        model: The model that it trains.
        model_name: The model's name; it prefixes the names of the optimizer's own parameters, since MindSpore wants
            every parameter name in a graph to be unique.
        index: Which of the model's (scheduled) optimizers this is.

    Raises:
        ValueError: The name is unknown, the function failed, or what it made is not a MindSpore optimizer.
    """
    if optimizer_fn is None:
        return None
    if isinstance(optimizer_fn, str):
        if optimizer_fn not in _BY_NAME:
            raise ValueError(f"optimizer_fn '{optimizer_fn}' is not one of {', '.join(sorted(_BY_NAME))}")
        optimizer_fn = _BY_NAME[optimizer_fn]
    try:
        optimizer = optimizer_fn(model.trainable_params())
    except Exception as err:
        raise ValueError(f"optimizer_fn of model '{model_name}' failed: {err}\nFor a MindSpore model it takes the list "
                         "of trainable parameters and returns a MindSpore optimizer, such as "
                         "`lambda params: ms.nn.SGD(params, learning_rate=0.01)`") from err
    if not isinstance(optimizer, OPTIMIZER_TYPES):
        raise ValueError(f"optimizer_fn of model '{model_name}' should make a MindSpore optimizer, but made a "
                         f"{type(optimizer)}")
    known = {id(parameter) for parameter in model.get_parameters()}
    if stranger := next((p.name for p in optimizer.parameters if id(p) not in known), None):
        raise ValueError(f"the optimizer of model '{model_name}' updates '{stranger}', which is no parameter of it")
    state = {}
    for parameter in _own_parameters(optimizer, known):
        if parameter.name in state:
            raise ValueError(f"the optimizer of model '{model_name}' has two parameters named '{parameter.name}'")
        state[parameter.name] = parameter
    for name, parameter in state.items():
        parameter.name = f"{model_name}.optimizer{index}.{name}"
    optimizer.fe_state = state
    return optimizer


def _own_parameters(optimizer: nn.Cell, model_parameter_ids: set[int]) -> Iterator[ms.Parameter]:
    """Yield the optimizer's state: its parameters that are not the model's, each once."""
    seen = set(model_parameter_ids)
    candidates = list(optimizer.get_parameters())
    candidates += [group["lr"] for group in getattr(optimizer, "param_groups", ())]
    for parameter in candidates:
        if isinstance(parameter, ms.Parameter) and id(parameter) not in seen:
            seen.add(id(parameter))
            yield parameter


def get_lr(model: nn.Cell) -> float:
    """Return the learning rate of the model's current optimizer (of its first parameter group if there are several).

    Raises:
        ValueError: The model has no optimizer.
    """
    optimizer = _current(model)
    rates = _rates(optimizer)
    if rates is None:  # a schedule inside the optimizer
        schedule = optimizer.learning_rate
        schedule = schedule[0] if isinstance(schedule, nn.CellList) else schedule
        return float(schedule(optimizer.global_step).asnumpy().reshape(()))
    return float(to_numpy(rates[0]).reshape(()))


def set_lr(model: nn.Cell, lr: float) -> None:
    """Set the learning rate of every parameter group of the model's current optimizer; nothing is recompiled.

    The value is kept in the precision of the optimizer's own parameter: float32 for MindSpore's optimizers, float64
    for one which holds a float64 `learning_rate`.

    Raises:
        ValueError: The model has no optimizer.
        UnsupportedError: The optimizer follows a learning rate schedule of its own.
    """
    rates = _rates(_current(model))
    if rates is None:
        raise UnsupportedError(f"the optimizer of model '{model.model_name}' follows a MindSpore learning rate "
                               "schedule, so it cannot be set from outside: give it a number, and schedule it with "
                               "FastEstimator's LRScheduler")
    for rate in rates:
        assign(rate, np.full(rate.shape, float(lr)))


def _current(model: nn.Cell) -> Any:
    optimizer = getattr(model, "current_optimizer", None)
    if optimizer is None:
        raise ValueError(f"model '{model.model_name}' has no optimizer, so it has no learning rate: "
                         "give fe.build an optimizer_fn")
    return optimizer


def _rates(optimizer: nn.Cell) -> list[ms.Parameter] | None:
    """Return the parameters that hold the learning rate, or None if it comes from a schedule."""
    if isinstance(optimizer, experimental_optim.Optimizer):
        return [group["lr"] for group in optimizer.param_groups]
    rate = optimizer.learning_rate
    if isinstance(rate, ms.Parameter):
        return [rate]
    return list(rate) if isinstance(rate, ms.ParameterTuple) else None
