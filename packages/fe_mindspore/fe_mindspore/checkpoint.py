"""Weights and optimizer state on disk: safetensors, by name, with nothing pickled.

`<name>.safetensors` holds the model's parameters (moving statistics too) under the names of
`model.parameters_and_names()`; `<name>_opt.safetensors` holds what the optimizers and unfinished `merge_grad` sums
keep. A file that misses a name, has one too many or another shape is refused.
"""
import os

import mindspore as ms
import numpy as np
from mindspore import nn
from safetensors.numpy import load_file, save_file

from fe_mindspore.convert import assign, to_numpy
from fe_mindspore.errors import UnsupportedError

EXTENSION = "safetensors"


def save_model(model: nn.Cell, save_dir: str, model_name: str | None = None, save_optimizer: bool = False,
               save_architecture: bool = False) -> str:
    """Save a MindSpore model's weights, as FastEstimator's `save_model` does for torch.

    Returns:
        The path of the weights, `<save_dir>/<model_name>.safetensors`.

    Raises:
        UnsupportedError: The architecture is to be saved too.
    """
    if save_architecture:
        raise UnsupportedError("save_architecture is not supported for MindSpore models: save the weights, and build "
                               "the model from its code (or export it with mindspore.export)")
    if model_name is None:
        model_name = model.model_name
    save_dir = os.path.normpath(save_dir)
    os.makedirs(save_dir, exist_ok=True)
    path = os.path.join(save_dir, f"{model_name}.{EXTENSION}")
    _save(_weights(model), path)
    if save_optimizer:
        _save(_optimizer_state(model), optimizer_path(path))
    return path


def load_model(model: nn.Cell, weights_path: str, load_optimizer: bool = False) -> None:
    """Load weights that `save_model` wrote, or a MindSpore `.ckpt` file with the same names.

    Raises:
        ValueError: The file is missing, or does not hold exactly this model's parameters.
    """
    _load(_weights(model), weights_path)
    if load_optimizer:
        _load(_optimizer_state(model), optimizer_path(weights_path))


def optimizer_path(weights_path: str) -> str:
    """Return where the optimizer state that belongs to a weights file lies."""
    return f"{os.path.splitext(weights_path)[0]}_opt.{EXTENSION}"


def _weights(model: nn.Cell) -> dict[str, ms.Parameter]:
    return dict(model.parameters_and_names())


def _optimizer_state(model: nn.Cell) -> dict[str, ms.Parameter]:
    """All of the model's (scheduled) optimizers, and the sums of its UpdateOps with `merge_grad`."""
    state = {f"{index}.{name}": parameter for index, optimizer in enumerate(model.fe_optimizers)
             if optimizer is not None for name, parameter in optimizer.fe_state.items()}
    for merged in getattr(model, "fe_merge_states", {}).values():
        state.update(merged.parameters())
    return state


def _save(parameters: dict[str, ms.Parameter], path: str) -> None:
    # Written aside and then moved, so that a run that dies here leaves the previous file whole.
    part = f"{path}.part"
    save_file({name: to_numpy(parameter) for name, parameter in parameters.items()}, part)
    os.replace(part, path)


def _load(parameters: dict[str, ms.Parameter], path: str) -> None:
    if not os.path.isfile(path):
        raise ValueError(f"there is no file {path}")
    arrays = _read(path)
    complaints = [f"{len(names)} {what} ({', '.join(sorted(names)[:3])}{', ...' if len(names) > 3 else ''})"
                  for what, names in (("missing", parameters.keys() - arrays.keys()),
                                      ("unexpected", arrays.keys() - parameters.keys())) if names]
    complaints += [f"{name} has shape {list(arrays[name].shape)}, not {list(parameter.shape)}"
                   for name, parameter in parameters.items()
                   if name in arrays and tuple(arrays[name].shape) != tuple(parameter.shape)]
    if complaints:
        raise ValueError(f"{path} does not fit this model: {'; '.join(complaints)}")
    for name, parameter in parameters.items():
        assign(parameter, arrays[name])


def _read(path: str) -> dict[str, np.ndarray]:
    if path.endswith(".ckpt"):
        return {name: to_numpy(parameter) for name, parameter in ms.load_checkpoint(path).items()}
    return load_file(path)
