"""The one place that changes FastEstimator: what ends in "unrecognized model" there gets a MindSpore branch.

Every replacement hands torch and TensorFlow models, and networks of those, to the function that it replaces.

* `_fe_compile` (the part of `fe.build` that knows frameworks) and `Network`;
* `save_model`, `load_model`, `get_lr`, `set_lr`, which traces have imported by name: replaced wherever they are held;
* `System._load_model`, by which RestoreWizard reloads models, and `System.save_state`, by which it saves: on Python
  3.11 and above FastEstimator takes `object.__getstate__` for its own, and would pickle whole models with each op;
* the import of the TensorBoard trace (see `keras2`);
* `Estimator._prepare_traces`, to refuse a trace that would leave MindSpore models out, before anything runs.
"""
import functools
import os
import sys
from collections.abc import Callable

from fastestimator import estimator as fe_estimator
from fastestimator import network as fe_network
from fastestimator.backend import _get_lr, _load_model, _save_model, _set_lr
from fastestimator.summary.system import System
from fastestimator.util import traceability_util
from mindspore import nn

from fe_mindspore import build, checkpoint, keras2, optimizer
from fe_mindspore.errors import UnsupportedError
from fe_mindspore.network import MSNetwork

_enabled = False


def enable() -> None:
    """Teach FastEstimator about MindSpore models; `import fe_mindspore` does it. Calling it again does nothing."""
    global _enabled
    if _enabled:
        return
    _enabled = True
    keras2.install()
    _dispatch(_save_model.save_model, _saved)
    _dispatch(_load_model.load_model, checkpoint.load_model)
    _dispatch(_get_lr.get_lr, optimizer.get_lr)
    _dispatch(_set_lr.set_lr, _lr_set)
    _dispatch(fe_network._fe_compile, _compiled)
    _replace(fe_network.Network, _network(fe_network.Network))
    System._load_model = staticmethod(_system_load(System._load_model))
    if hasattr(object, "__getstate__"):
        System.save_state = _with_own_getstate(System.save_state)
    fe_estimator.Estimator._prepare_traces = _checked_traces(fe_estimator.Estimator._prepare_traces)


def _dispatch(original: Callable, for_cells: Callable) -> None:
    """Replace a function of a model by one that calls `for_cells` if the model is a Cell."""

    @functools.wraps(original)
    def function(model, *args, **kwargs):
        return (for_cells if isinstance(model, nn.Cell) else original)(model, *args, **kwargs)

    _replace(original, function)


def _replace(original: Callable, function: Callable) -> None:
    """Replace a function in every module that holds it under its name, its own included."""
    for module in list(sys.modules.values()):
        if getattr(module, "__dict__", {}).get(original.__name__) is original:
            setattr(module, original.__name__, function)


def _built(model: nn.Cell) -> None:
    if not getattr(model, "fe_compiled", False):
        raise ValueError(f"this {type(model).__name__} was not made by fe.build: build it first")


def _saved(model: nn.Cell, *args, **kwargs) -> str:
    _built(model)
    return checkpoint.save_model(model, *args, **kwargs)


def _lr_set(model: nn.Cell, lr: float, weight_decay: float | None = None) -> None:
    _built(model)
    if weight_decay is not None:
        raise UnsupportedError("set_lr(weight_decay=...) is for TensorFlow optimizers: set the weight decay of a "
                               "MindSpore optimizer when it is made")
    optimizer.set_lr(model, lr)


def _compiled(model: nn.Cell, optimizer_fn, weight, name, mixed_precision: bool) -> nn.Cell:
    if mixed_precision:  # fe.build has set it for TensorFlow already
        from tensorflow.keras import mixed_precision as mixed_precision_tf
        mixed_precision_tf.set_global_policy("float32")
    return build.compile_cell(model, optimizer_fn, weight, name, mixed_precision)


def _network(original: Callable) -> Callable:

    @functools.wraps(original)
    def network(ops, pops=None, slicers=None):
        models = fe_network._collect_models(ops)
        cells = [model for model in models if isinstance(model, nn.Cell)]
        if not cells:
            return original(ops, pops, slicers)
        if len(cells) < len(models):
            raise ValueError("a network's models should all be of one framework, but only "
                             f"{sorted(model.model_name for model in cells)} of "
                             f"{sorted(model.model_name for model in models)} are MindSpore's")
        # Files are named after models, and some file systems do not tell cases apart.
        if len({model.model_name.lower() for model in models}) < len(models):
            raise ValueError("all models of a network must have unique names, but these are "
                             f"{sorted(model.model_name for model in models)}: give fe.build a model_name")
        return MSNetwork(ops, pops, slicers)

    return network


def _system_load(original: Callable) -> Callable:

    @functools.wraps(original)
    def load(model, base_path: str) -> None:
        if not isinstance(model, nn.Cell):
            original(model, base_path)
            return
        path = os.path.join(base_path, f"{model.model_name}.{checkpoint.EXTENSION}")
        if not os.path.exists(path):
            raise FileNotFoundError(f"Cannot find model weights file at {path}")
        checkpoint.load_model(model, path, load_optimizer=os.path.exists(checkpoint.optimizer_path(path)))

    return load


def _with_own_getstate(original: Callable) -> Callable:

    @functools.wraps(original)
    def save_state(self, save_dir: str) -> None:
        # The classes at the root of FastEstimator's hierarchies; those derived from them inherit.
        roots = {cls for name, module in list(sys.modules.items()) if name.startswith("fastestimator.")
                 for cls in vars(module).values()
                 if isinstance(cls, type) and "fe_summary" in vars(cls) and cls.__getstate__ is object.__getstate__}
        for cls in roots:
            cls.__getstate__ = traceability_util.__getstate__
        try:
            original(self, save_dir)
        finally:
            for cls in roots:
                del cls.__getstate__

    return save_state


def _checked_traces(original: Callable) -> Callable:

    @functools.wraps(original)
    def prepare(self, run_modes) -> None:
        original(self, run_modes)
        if not isinstance(self.network, MSNetwork):
            return
        # Only a program that uses these traces has imported them, and needs what they import.
        tensorboard = sys.modules.get("fastestimator.trace.io.tensorboard")
        traceability = sys.modules.get("fastestimator.trace.io.traceability")
        for trace in fe_estimator.get_current_items(self.traces_in_use, run_modes=run_modes):
            if traceability is not None and isinstance(trace, traceability.Traceability):
                raise UnsupportedError("the Traceability trace draws torch and TensorFlow models only: leave it out "
                                       "for a MindSpore network")
            if tensorboard is not None and isinstance(trace, tensorboard.TensorBoard):
                from fe_mindspore import tensorboard as ours
                ours.check(trace)
                ours.install()

    return prepare
